package disk

import "fmt"

// fillStepBytes is one write of zeros: large enough that the device runs at
// its full rate, small enough to be a passing allocation.
const fillStepBytes = 1 << 20

// Zero writes zeros over [from, to) of f in large aligned writes; both are
// multiples of BlockBytes. It does not sync. Files filled this way are later
// overwritten in place without a change of metadata, which makes their
// fdatasync cheaper than on a file that grows or was only preallocated.
func Zero(f File, from, to int64) error {
	if from >= to {
		return nil
	}
	zeros := Alloc(int(min(to-from, fillStepBytes)))
	for from < to {
		n := min(to-from, int64(len(zeros)))
		if _, err := f.WriteAt(zeros[:n], from); err != nil {
			return fmt.Errorf("fill with zeros at byte %d: %w", from, err)
		}
		from += n
	}
	return nil
}
