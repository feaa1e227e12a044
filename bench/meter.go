package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ticksPerSecond is the unit of CPU times in /proc (USER_HZ, 100 on Linux).
const ticksPerSecond = 100

// readCPU gives the user and system CPU seconds that a process has used.
func readCPU(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte(") ")) // the name before may hold spaces
	f := strings.Fields(string(rest))
	if len(f) < 13 {
		return 0, fmt.Errorf("read /proc/%d/stat: %d fields after the name", pid, len(f))
	}
	if f[0] == "Z" {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	user, err1 := strconv.ParseFloat(f[11], 64)
	system, err2 := strconv.ParseFloat(f[12], 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("read /proc/%d/stat: %q %q", pid, f[11], f[12])
	}
	return (user + system) / ticksPerSecond, nil
}

// readMachineCPU gives the CPU seconds that everybody on the machine has used.
func readMachineCPU() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var sum float64
	for i, f := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // the name, idle, waiting for I/O, guests (counted in user)
			continue
		}
		v, _ := strconv.ParseFloat(f, 64)
		sum += v
	}
	return sum / ticksPerSecond
}

// memory gives a process's resident bytes by kind: VmRSS, VmHWM (the most there
// was), RssAnon (its own), RssFile (pages of the binary).
func memory(pid int) (map[string]float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[2] == "kB" {
			v, _ := strconv.ParseFloat(f[1], 64)
			out[strings.TrimSuffix(f[0], ":")] = v * 1024
		}
	}
	return out, nil
}

// meter measures time and CPU between its start and its stop.
type meter struct {
	procs   []*process
	at      time.Time
	cpu     []float64
	own     float64
	machine float64
}

// use is what a meter saw. Other is the CPU seconds of everything on the
// machine that is neither the processes nor this program.
type use struct {
	took  time.Duration
	cpu   []float64 // by process, in the order given
	own   float64
	other float64
}

func startMeter(procs ...*process) *meter {
	m := &meter{procs: procs, at: time.Now(), machine: readMachineCPU()}
	m.cpu, m.own = m.read()
	return m
}

func (m *meter) read() ([]float64, float64) {
	out := make([]float64, len(m.procs))
	for i, p := range m.procs {
		out[i], _ = readCPU(p.pid()) // a process that died makes the figure fail elsewhere
	}
	own, _ := readCPU(os.Getpid())
	return out, own
}

func (m *meter) stop() use {
	cpu, own := m.read()
	u := use{took: time.Since(m.at), cpu: cpu, own: own - m.own, other: readMachineCPU() - m.machine - (own - m.own)}
	for i := range cpu {
		u.cpu[i] -= m.cpu[i]
		u.other -= u.cpu[i]
	}
	return u
}

// addOther says in a result how busy others kept the machine: a figure with
// much of it is worth little.
func (u use) addOther(r *result) *result {
	return r.add("others on the machine used", fmt.Sprintf("of %d cores", runtime.NumCPU()), max(0, u.other/u.took.Seconds()))
}

// metrics reads a broker's /metrics: name with labels, as printed, to value.
func metrics(ctx context.Context, admin string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	all := map[string]float64{}
	s := bufio.NewScanner(resp.Body)
	for s.Scan() {
		i := strings.LastIndexByte(s.Text(), ' ')
		if i < 0 || strings.HasPrefix(s.Text(), "#") {
			continue
		}
		if v, err := strconv.ParseFloat(s.Text()[i+1:], 64); err == nil {
			all[s.Text()[:i]] = v
		}
	}
	return all, s.Err()
}

// fetchSources are the labels of tidewater_fetch_bytes_total.
var fetchSources = []string{"memory", "disk", "cache", "bucket"}

// addSources adds to a result which share of fetched bytes came from where.
func addSources(r *result, before, after map[string]float64) *result {
	var shares []float64
	var sum float64
	for _, s := range fetchSources {
		name := fmt.Sprintf("tidewater_fetch_bytes_total{source=%q}", s)
		shares = append(shares, after[name]-before[name])
		sum += after[name] - before[name]
	}
	for i, s := range fetchSources {
		if shares[i] > 0 {
			r.add("from "+s, "%", 100*shares[i]/sum)
		}
	}
	return r
}

// writtenBytes is what a process has had written to the disk.
func writtenBytes(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return n
		}
	}
	return 0
}

// dirBytes is the sum of a directory's files.
func dirBytes(dir string) (sum int64) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		if in, err := e.Info(); err == nil {
			sum += in.Size()
		}
	}
	return sum
}

// counter counts bytes and keeps the first error.
type counter struct {
	mu    sync.Mutex
	bytes float64
	err   error
}

func (c *counter) add(err error, n float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.bytes += n
	} else if c.err == nil {
		c.err = err
	}
}

func (c *counter) get() (float64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes, c.err
}
