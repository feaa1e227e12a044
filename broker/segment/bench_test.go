package segment

import (
	"fmt"
	"testing"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// What checking costs a reader, beside a disk that is only memory: 1 MiB reads
// of batches of two sizes.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			fs := disk.NewMem(0)
			l, err := Open(Config{FS: fs, Dir: "log", Identity: testIdentity})
			if err != nil {
				b.Fatal(err)
			}
			s := newStory(size)
			for range 16 {
				if err := l.Append(s.add(b, (2<<20)/size)); err != nil {
					b.Fatal(err)
				}
			}
			if err := l.Sync(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(1 << 20)
			b.ResetTimer()
			at := record.Offset(0)
			for b.Loop() {
				var lease Lease
				got, err := l.ReadLeased(at, 1<<20, s.next, &lease)
				if err != nil {
					b.Fatal(err)
				}
				if at = batchNext(got); at >= s.next/2 {
					at = 0
				}
				lease.Release()
			}
		})
	}
}

func batchNext(got [][]byte) record.Offset { return record.Batch(got[len(got)-1]).NextOffset() }
