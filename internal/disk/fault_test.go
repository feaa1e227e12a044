package disk

import (
	"errors"
	"testing"
)

var errBroken = errors.New("broken")

func on(op Op) func(Call) bool { return func(c Call) bool { return c.Op == op } }

// Every operation can be made to fail, as often as asked, and then works.
func TestRulesStrikeAsOften(t *testing.T) {
	f := NewFault(NewMem(0))
	file, err := f.Create("a")
	must(t, err)
	ops := map[Op]func() error{
		OpOpen:      func() error { _, err := f.Open("a"); return err },
		OpCreate:    func() error { _, err := f.Create("b"); return err },
		OpRename:    func() error { return f.Rename("a", "a") },
		OpRemove:    func() error { return f.Remove("b") },
		OpRemoveAll: func() error { return f.RemoveAll("c") },
		OpMkdirAll:  func() error { return f.MkdirAll("d") },
		OpList:      func() error { _, err := f.List("."); return err },
		OpSyncDir:   func() error { return f.SyncDir(".") },
		OpFree:      func() error { _, err := f.Free(); return err },
		OpRead:      func() error { _, err := file.ReadAt(Alloc(0), 0); return err },
		OpWrite:     func() error { _, err := file.WriteAt(Alloc(BlockBytes), 0); return err },
		OpSync:      func() error { return file.Sync() },
		OpTruncate:  func() error { return file.Truncate(BlockBytes) },
		OpSize:      func() error { _, err := file.Size(); return err },
	}
	order := []Op{OpOpen, OpCreate, OpRename, OpRemove, OpRemoveAll, OpMkdirAll, OpList, OpSyncDir, OpFree, OpRead, OpWrite, OpSync, OpTruncate, OpSize}
	for _, op := range order {
		f.Add(Rule{When: on(op), Times: 2, Err: errBroken})
		for range 2 {
			if err := ops[op](); !errors.Is(err, errBroken) {
				t.Errorf("%s: %v", op, err)
			}
		}
		if err := ops[op](); err != nil {
			t.Errorf("%s after its rule: %v", op, err)
		}
	}
}

// A torn write leaves its first bytes, bit rot shows on read only, short space
// is what Free says, and the hook sees each call first.
func TestFaultsDoWhatTheySay(t *testing.T) {
	m := NewMem(0)
	f := NewFault(m)
	file, err := f.Create("a")
	must(t, err)
	write(t, file, fillBlock(1, 2), 0)
	f.Add(Rule{When: on(OpWrite), Times: 1, Err: errBroken, TornBytes: BlockBytes + 512})
	if n, err := file.WriteAt(fillBlock(2, 2), 0); !errors.Is(err, errBroken) || n != BlockBytes+512 {
		t.Fatalf("torn write: %d, %v", n, err)
	}
	b := readAll(t, m, "a")
	if b[BlockBytes+511] != 2 || b[BlockBytes+512] != 1 {
		t.Fatal("torn at the wrong place")
	}
	f.Add(Rule{When: on(OpRead), FlipBit: (BlockBytes+7)*8 + 3})
	if b := readAll(t, f, "a"); b[BlockBytes+7] != 2^8 || b[7] != 2 {
		t.Fatalf("bit rot gave %d", b[BlockBytes+7])
	}
	if b := readAll(t, m, "a"); b[BlockBytes+7] != 2 {
		t.Fatal("bit rot reached the disk")
	}
	f.Clear()
	f.Add(Rule{When: on(OpFree), FreeBytes: 17})
	if n, err := f.Free(); n != 17 || err != nil {
		t.Fatalf("free: %d, %v", n, err)
	}
	f.Clear()
	f.Add(Rule{When: on(OpWrite), Times: 1})
	write(t, file, fillBlock(5, 1), 0)
	if b := readAll(t, m, "a"); b[0] == 5 {
		t.Fatal("a lost write reached the disk")
	}
	var calls []Call
	f.Before(func(c Call) { calls = append(calls, c) })
	write(t, file, fillBlock(6, 1), BlockBytes)
	if len(calls) != 1 || calls[0] != (Call{Op: OpWrite, Name: "a", Offset: BlockBytes, Bytes: BlockBytes}) {
		t.Fatalf("calls: %v", calls)
	}
}
