package commit

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"tidewater/catalog"
	"tidewater/catalog/server"
	"tidewater/iceberg/icebergtest"
	"tidewater/iceberg/scan"
	"tidewater/iceberg/schema"
	"tidewater/iceberg/tablefs"
	"tidewater/iceberg/translate"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
)

const flightSchema = `{"type": "object", "properties": {
	"carrier": {"type": "string"}, "flight": {"type": "integer"}, "delay": {"type": ["number", "null"]}}, "required": ["carrier"]}`

// world is a log, a bucket and a catalog; committers come and go.
type world struct {
	t       *testing.T
	clock   time.Time
	random  uint64
	mem     *objstore.Mem
	store   *objstore.Fault
	catalog *icebergtest.Catalog
	// real uses our own catalog over the store in place of catalog.
	real   bool
	parts  []*icebergtest.Partition
	bucket map[int32]record.Offset // nil: everything is in the bucket
	owner  Owner
	topic  Topic
}

func newWorld(t *testing.T, partitions int, json bool) *world {
	w := &world{t: t, clock: time.Unix(1_700_000_000, 0), owner: Owner{Topic: record.TopicID{1}, Incarnation: 1}}
	w.mem = objstore.NewMem(func() time.Time { return w.clock })
	w.store = &objstore.Fault{Store: w.mem}
	w.catalog = icebergtest.NewCatalog("s3://lake/tables")
	for p := range partitions {
		w.parts = append(w.parts, icebergtest.NewPartition(w.owner.Topic, int32(p)))
	}
	if json {
		value, err := schema.Compile(flightSchema)
		if err != nil {
			t.Fatal(err)
		}
		w.topic.Value = value
	}
	return w
}

func (w *world) fs() tablefs.FS { return tablefs.FS{Store: w.store, Root: "s3://lake"} }

func ident() catalog.Ident {
	return catalog.Ident{Namespace: catalog.Namespace{"topics"}, Name: "flights"}
}

// tables is a catalog as a process that just started has it.
func (w *world) tables() catalog.Catalog {
	if !w.real {
		return w.catalog
	}
	s, err := server.New(server.Config{Store: w.store, Root: "s3://lake", ClusterID: "c", Now: func() time.Time { return w.clock },
		UUID: func() (u uuid.UUID) {
			w.random++
			binary.BigEndian.PutUint64(u[:], w.random)
			return u
		}})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) config() Config {
	return Config{
		Catalog: w.tables(), FS: w.fs(), Ident: ident(), Owner: w.owner, Topic: w.topic,
		Sources: func() []translate.Source {
			var out []translate.Source
			for _, p := range w.parts {
				out = append(out, p)
			}
			return out
		},
		BucketEnd: func(id record.PartitionID) record.Offset {
			if w.bucket == nil {
				return w.parts[id.Partition].End()
			}
			return w.bucket[id.Partition]
		},
		Now: func() time.Time { w.clock = w.clock.Add(time.Millisecond); return w.clock },
		Random: func() uint64 {
			w.random += 0x9e3779b97f4a7c15
			z := (w.random ^ w.random>>30) * 0xbf58476d1ce4e5b9
			z = (z ^ z>>27) * 0x94d049bb133111eb
			return z ^ z>>31
		},
	}
}

func (w *world) committer() *Committer {
	c, err := New(w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// drain runs rounds until nothing moves.
func (w *world) drain(c *Committer) {
	w.t.Helper()
	for range 20 {
		r, err := c.RunOnce(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		if !r.Moved && !r.Behind {
			return
		}
	}
	w.t.Fatal("twenty rounds and no end")
}

// rows gives partition/offset of every row of a table, sorted, doubles kept.
func (w *world) rows(id catalog.Ident) []string {
	w.t.Helper()
	t, err := scan.Open(context.Background(), w.tables(), w.fs(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	if err := t.Offsets(context.Background(), nil, func(_ string, p int32, o int64) error {
		out = append(out, fmt.Sprintf("%d/%05d", p, o))
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func (w *world) deadIdent() catalog.Ident {
	return catalog.Ident{Namespace: ident().Namespace, Name: ident().Name + DeadSuffix}
}

func want(partition int32, offsets ...int) []string {
	var out []string
	for _, o := range offsets {
		out = append(out, fmt.Sprintf("%d/%05d", partition, o))
	}
	return out
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func (w *world) equal(name string, got []string, wants ...[]string) {
	w.t.Helper()
	all := slices.Concat(wants...)
	slices.Sort(all)
	if !slices.Equal(got, all) {
		w.t.Fatalf("%s holds\n%v, want\n%v", name, got, all)
	}
}

// ends gives the table's offsets by partition.
func ends(c *Committer) map[int32]record.Offset {
	out := map[int32]record.Offset{}
	for p, m := range maps.All(c.Offsets().Marks) {
		out[p] = m.End
	}
	return out
}
