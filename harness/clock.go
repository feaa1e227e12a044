package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockCode replaces __vdso_clock_gettime in one process: it asks the kernel
// and adds the number behind the code to the seconds of CLOCK_REALTIME alone.
// Timers go by other clocks and are as they were, like after a step of NTP.
//
//	mov eax, 228 (clock_gettime); syscall
//	test edi, edi; jne done
//	mov rcx, [rip+6]; add [rsi], rcx
//	done: ret
var clockCode = []byte{
	0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0x85, 0xff, 0x75, 10, 0x48, 0x8b, 0x0d, 6, 0, 0, 0, 0x48, 0x01, 0x0e, 0xc3, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0,
}

// clockOffset is where in clockCode the seconds stand.
const clockOffset = 24

// clock is the wall clock of one process, once it was moved.
type clock struct {
	pid int
	at  uint64 // of the code in its memory
}

// canSkew says why clocks cannot be moved here, nil if they can.
func canSkew() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("clocks are moved on amd64 only, this is %s", runtime.GOARCH)
	}
	base, image, err := vdso(os.Getpid())
	if err == nil {
		_, err = clockSymbol(base, image)
	}
	return err
}

// takeClock puts our code into a process that runs.
func takeClock(pid int) (*clock, error) {
	if pid <= 0 {
		return nil, errors.New("no process runs whose clock could be moved")
	}
	base, image, err := vdso(pid)
	if err != nil {
		return nil, err
	}
	at, err := clockSymbol(base, image)
	if err != nil {
		return nil, err
	}
	c := &clock{pid: pid, at: at}
	for range 100 {
		done, err := c.install(base, base+uint64(len(image)))
		if done || err != nil {
			return c, err
		}
	}
	return nil, fmt.Errorf("process %d is always asking for the time", pid)
}

// install writes the code while the process stands still, unless one of its
// threads is inside what is overwritten.
func (c *clock) install(low, high uint64) (done bool, err error) {
	if err := syscall.Kill(c.pid, syscall.SIGSTOP); err != nil {
		return false, fmt.Errorf("stop process %d: %w", c.pid, err)
	}
	defer func() { err = errors.Join(err, syscall.Kill(c.pid, syscall.SIGCONT)) }()
	for range 100 {
		at, err := places(c.pid)
		if err != nil {
			return false, err
		}
		if at == nil { // it has not stopped yet
			time.Sleep(time.Millisecond)
			continue
		}
		for _, pc := range at {
			if pc >= low && pc < high {
				return false, nil
			}
		}
		return true, c.write(0, clockCode)
	}
	return false, fmt.Errorf("process %d does not stop", c.pid)
}

// set moves the clock by whole seconds against the machine's.
func (c *clock) set(by time.Duration) error {
	return c.write(clockOffset, binary.LittleEndian.AppendUint64(nil, uint64(int64(by/time.Second))))
}

func (c *clock) write(at uint64, b []byte) error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open memory: %w", err)
	}
	_, err = f.WriteAt(b, int64(c.at+at))
	return errors.Join(err, f.Close())
}

// places gives where each thread of a stopped process stands, nil while one runs.
func places(pid int) ([]uint64, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	if err != nil || len(tasks) == 0 {
		return nil, fmt.Errorf("list threads of process %d: %w", pid, errors.Join(err, os.ErrNotExist))
	}
	var out []uint64
	for _, name := range tasks {
		b, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return nil, fmt.Errorf("read where a thread stands: %w", err)
		}
		fields := strings.Fields(string(b))
		if len(fields) < 3 {
			return nil, nil
		}
		pc, err := strconv.ParseUint(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("read where a thread stands: %w", err)
		}
		out = append(out, pc)
	}
	return out, nil
}

// vdso gives the code that the kernel maps into a process.
func vdso(pid int) (base uint64, image []byte, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, nil, fmt.Errorf("read memory map: %w", err)
	}
	for line := range strings.Lines(string(maps)) {
		var end uint64
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &base, &end); err != nil {
			return 0, nil, fmt.Errorf("read memory map: %w", err)
		}
		f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil {
			return 0, nil, fmt.Errorf("open memory: %w", err)
		}
		defer f.Close()
		image = make([]byte, end-base)
		_, err = f.ReadAt(image, int64(base))
		return base, image, err
	}
	return 0, nil, errors.New("the kernel maps no vDSO")
}

// clockSymbol is the address of clock_gettime in the mapped code.
func clockSymbol(base uint64, image []byte) (uint64, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("read vDSO: %w", err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("read vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" && s.Size >= uint64(len(clockCode)) {
			return base + s.Value, nil
		}
	}
	return 0, errors.New("the vDSO has no clock_gettime with room for ours")
}
