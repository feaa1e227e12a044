package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"tidewater/iceberg/scan"
	"tidewater/iceberg/translate"
	"tidewater/internal/record"
)

// sumRow takes in one row of a table.
func (v *verifier) sumRow(file string, b *batch, i int) error {
	v.progress(1)
	partition, offset := b.partitions.Value(i), b.offsets.Value(i)
	v.inOrder(file, partition, offset)
	p, ok := v.parts[partition]
	if !ok || offset < p.start || offset >= p.To {
		// Dead letters may be ahead of the table: a crash came in between.
		if ok && b.place == inDead && offset >= p.To {
			return nil
		}
		v.differ(Extra, partition, offset, fmt.Sprintf("a row of the %s outside the offsets it claims", b.place))
		return nil
	}
	if offset < p.From {
		p.Unchecked++
		return nil
	}
	s, err := v.rows.tableSum(b, i)
	if err != nil {
		return err
	}
	w := p.window(offset)
	w.table.add(s)
	w.tableCount++
	if b.place == inTable {
		p.Rows++
	} else {
		p.Dead++
	}
	return nil
}

// inOrder checks that a file's rows of a partition stand in the order of their
// offsets.
func (v *verifier) inOrder(file string, partition int32, offset int64) {
	if v.file != file {
		v.file, v.last = file, map[int32]int64{}
	}
	if last, ok := v.last[partition]; ok && offset < last {
		v.differ(Reordered, partition, offset, fmt.Sprintf("after offset %d in %s", last, file))
	}
	v.last[partition] = max(v.last[partition], offset)
}

func (v *verifier) differ(k Kind, partition int32, offset int64, detail string) {
	if len(v.report.Differences) < DifferencesMax {
		v.report.Differences = append(v.report.Differences, Difference{k, partition, offset, detail})
	}
}

// examine looks into the windows that differ, row by row.
func (v *verifier) examine(ctx context.Context) error {
	n := 0
	for _, p := range v.order {
		for i := range p.windows {
			if p.windows[i].agrees() {
				continue
			}
			if n++; n > windowsExamined || len(v.report.Differences) >= DifferencesMax {
				v.report.WindowsUnexamined++
				continue
			}
			from := p.From + int64(i)*WindowOffsets
			if err := v.window(ctx, p, from, min(from+WindowOffsets, p.To)); err != nil {
				return err
			}
		}
	}
	return nil
}

// row is one row of a table by its columns' hashes.
type row struct {
	place   place
	columns map[string]uint64
}

// window compares the offsets [from, to) of one partition one by one.
func (v *verifier) window(ctx context.Context, p *part, from, to int64) error {
	rows := map[int64][]row{}
	partition := p.Partition.Partition
	err := v.tables(ctx, scan.Between(partition, from, to), func(_ string, b *batch, i int) error {
		r := row{place: b.place, columns: map[string]uint64{}}
		offset := b.offsets.Value(i)
		rows[offset] = append(rows[offset], r)
		return v.rows.columnsOf(b, i, func(name string, c []byte) { r.columns[name] = xxhash.Sum64(c) })
	})
	if err != nil {
		return err
	}
	_, err = translate.Records(ctx, p.source, record.Offset(from), record.Offset(to), func(rec *record.Record) error {
		v.record(partition, rec, rows[int64(rec.Offset)])
		delete(rows, int64(rec.Offset))
		return nil
	})
	if err != nil {
		return err
	}
	var extra []int64
	for offset := range rows {
		extra = append(extra, offset)
	}
	slices.Sort(extra)
	for _, offset := range extra {
		v.differ(Extra, partition, offset, fmt.Sprintf("a row of the %s without a record in the log", rows[offset][0].place))
	}
	return nil
}

// record compares one record with its rows.
func (v *verifier) record(partition int32, rec *record.Record, rows []row) {
	where, reason := v.rows.judge(partition, rec)
	offset := int64(rec.Offset)
	switch {
	case len(rows) == 0 && where == dropped:
		return
	case len(rows) == 0:
		detail := fmt.Sprintf("not in the %s", where)
		if reason != "" {
			detail += " (" + reason + ")"
		}
		v.differ(Missing, partition, offset, detail)
		return
	case len(rows) > 1:
		v.differ(Doubled, partition, offset, fmt.Sprintf("%d rows, first in the %s, then in the %s", len(rows), rows[0].place, rows[1].place))
		return
	}
	got := rows[0]
	if got.place == inDead && where != inDead {
		v.rows.asDead(partition, rec) // as an earlier schema judged
	}
	if got.place == inTable && where != inTable {
		return // as an earlier schema judged; there are no values to compare
	}
	v.compare(partition, offset, got)
}

// compare names the first column in which the row differs from the record as
// the rower has it.
func (v *verifier) compare(partition int32, offset int64, got row) {
	bad := ""
	v.rows.columns(got.place, func(name string, c []byte) {
		h, ok := got.columns[name]
		delete(got.columns, name)
		if !ok && v.isLate(got.place, name) {
			return
		}
		if bad == "" && (!ok || h != xxhash.Sum64(c)) {
			bad = name
		}
	})
	for name := range got.columns {
		if bad == "" || name < bad {
			bad = name // null in the log
		}
	}
	if bad != "" {
		v.differ(Altered, partition, offset, fmt.Sprintf("column %s of the %s", bad, got.place))
	}
}

// isLate reports whether a column of the table was added after its creation.
func (v *verifier) isLate(p place, name string) bool {
	if p != inTable {
		return false
	}
	first := v.cfg.Table.Metadata.Schemas()[0]
	_, there := first.FindFieldByName(name)
	return !there
}
