package segment

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"tidewater/internal/record"
)

// A damaged segment is made anew in a file of the next generation, which counts
// once its index is there: Roll writes that when all else is durable. From then
// on the older file may go. At an Open that finds both, the one that counts
// stays.

// parseName reads the first offset and Index and the generation out of a
// segment's file name.
func parseName(name string) (base record.Offset, first record.Index, generation uint32, ok bool) {
	stem, _ := strings.CutSuffix(name, segmentSuffix)
	parts := strings.Split(stem, "-")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, 0, 0, false
	}
	b, err1 := strconv.ParseInt(parts[0], 10, 64)
	f, err2 := strconv.ParseUint(parts[1], 10, 64)
	g, err3 := uint64(0), error(nil)
	if len(parts) == 3 {
		g, err3 = strconv.ParseUint(parts[2], 10, 32)
	}
	base, first, generation = record.Offset(b), record.Index(f), uint32(g)
	ok = errors.Join(err1, err2, err3) == nil && segmentName(base, first, generation) == name
	return base, first, generation, ok
}

func generationOf(name string) uint32 {
	_, _, generation, _ := parseName(name)
	return generation
}

// newest leaves of several generations of a segment the one that counts, and
// removes the others: the highest whose index checks, else the lowest.
func (l *Log) newest(names []string, indexed map[string]bool) ([]string, error) {
	if !slices.ContainsFunc(names, func(name string) bool { return generationOf(name) > 0 }) {
		return names, nil
	}
	slices.SortStableFunc(names, func(a, b string) int {
		fa, _ := firstOf(a)
		fb, _ := firstOf(b)
		return cmp.Or(cmp.Compare(fa, fb), cmp.Compare(generationOf(a), generationOf(b)))
	})
	var out []string
	for i := 0; i < len(names); {
		n := i + 1
		first, _ := firstOf(names[i])
		for ; n < len(names); n++ {
			if f, _ := firstOf(names[n]); f != first {
				break
			}
		}
		best := i
		for k := n - 1; k > i; k-- {
			if !indexed[indexName(names[k])] {
				continue
			}
			_, err := l.openIndex(names[k])
			if err == nil {
				best = k
				break
			}
			if !errors.Is(err, ErrCorrupt) {
				return nil, err
			}
		}
		out = append(out, names[best])
		for k := i; k < n; k++ {
			if k == best {
				continue
			}
			if err := l.remove(names[k]); err != nil {
				return nil, err
			}
		}
		i = n
	}
	return out, nil
}

// removeNext removes what a try left behind to make a segment anew.
func (l *Log) removeNext(in Info) error {
	return l.remove(segmentName(in.Base, in.First, generationOf(in.Name)+1))
}

// remove removes a segment's files, if they are there, the index first: a
// segment without index is read again at the next Open, an index without
// segment is not.
func (l *Log) remove(segment string) error {
	in := Info{Name: segment}
	for _, name := range []string{l.IndexPath(in), l.Path(in)} {
		l.cache.forget(name)
		if err := l.cfg.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove segment %s: %w", name, err)
		}
	}
	return nil
}
