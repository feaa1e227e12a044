package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// dataDir is one of the broker's data directories, with a journal and a host of
// groups of its own.
type dataDir struct {
	path    string
	id      diskID
	added   bool // it was not the broker's before
	unlock  func() error
	disk    disk.FS
	journal *journal.Journal
	host    *multiraft.Host
	// pending are the replicas in which records may wait for the segments loop.
	pending hostedSet
}

// free is how much room there is, -1 if the disk does not say.
func (d *dataDir) free() int64 {
	if n, err := d.disk.Free(); err == nil {
		return n
	}
	return -1
}

// lockedDirs are the data directories of a broker that this process has locked
// and found to be the broker's, all of them, each once.
type lockedDirs struct {
	dirs []*dataDir // the first of the configuration first
	// identity is the first's; found is false where there was none.
	identity identity
	found    bool
}

// lockDirs locks the data directories and checks that they belong together.
// Nothing is written but the locks' files, and in no directory but the first
// before all were found to be right.
func lockDirs(cfg *Config) (_ *lockedDirs, err error) {
	l := &lockedDirs{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.unlock())
		}
	}()
	if err := l.lock(cfg.DataDir); err != nil {
		return nil, err
	}
	if l.identity, l.found, err = loadIdentity(cfg.DataDir); err != nil {
		return nil, err
	}
	if l.found && l.identity.NodeID != cfg.NodeID {
		return nil, fmt.Errorf("data directory %s belongs to node %d, this is node %d: change --node-id or --data-dir", cfg.DataDir, l.identity.NodeID, cfg.NodeID)
	}
	if !l.found {
		l.identity = newIdentity(cfg.NodeID)
	}
	if err := l.identity.first(cfg.DataDir); err != nil {
		return nil, err
	}
	found := make([]foundDir, 0, len(cfg.MoreDataDirs))
	for i, path := range cfg.MoreDataDirs {
		if other := sameDir(path, append([]string{cfg.DataDir}, cfg.MoreDataDirs[:i]...)); other != "" {
			return nil, fmt.Errorf("data directory %s is given twice, as %s and in more-data-dirs: each needs a disk of its own", path, other)
		}
		f, err := findDir(path)
		if err != nil {
			return nil, err
		}
		found = append(found, f)
	}
	if err := l.identity.gather(cfg.DataDir, found); err != nil {
		return nil, err
	}
	l.dirs[0].id = l.identity.Disk
	for i := range found {
		if err := l.lock(found[i].path); err != nil {
			return nil, err
		}
		l.dirs[i+1].id, l.dirs[i+1].added = found[i].identity.Disk, found[i].added
	}
	for _, d := range l.dirs {
		if err := checkJournal(d.path); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *lockedDirs) lock(path string) error {
	unlock, err := disk.Lock(path)
	if err == nil {
		l.dirs = append(l.dirs, &dataDir{path: path, unlock: unlock})
	}
	return err
}

func (l *lockedDirs) unlock() error {
	var errs []error
	for _, d := range l.dirs {
		errs = append(errs, d.unlock())
	}
	return errors.Join(errs...)
}

// sameDir gives the one of others that is the directory path, however written.
func sameDir(path string, others []string) string {
	info, err := os.Stat(path)
	for _, o := range others {
		if filepath.Clean(o) == filepath.Clean(path) {
			return o
		}
		if other, failed := os.Stat(o); err == nil && failed == nil && os.SameFile(info, other) {
			return o
		}
	}
	return ""
}

// foundDir is a further data directory as it was found.
type foundDir struct {
	path     string
	identity identity
	known    bool   // it has an identity
	used     bool   // it has, or had, a journal
	other    string // what else is in it, "" for nothing
	added    bool   // it is to be put on the list
}

func findDir(path string) (f foundDir, err error) {
	f.path = path
	if f.identity, f.known, err = loadIdentity(path); err != nil {
		return f, err
	}
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("read data directory %s: %w", path, err)
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".new-") // a file that writeFile was at
		switch name {
		case journalDir, journalEndFile, partitionsDir:
			f.used = true
		case disk.LockFile, identityFile, "lost+found", ".direct-probe":
		default:
			f.other = e.Name()
		}
	}
	return f, nil
}

// first refuses a directory that is one of several and not the first of them.
func (i *identity) first(path string) error {
	if len(i.Disks) == 0 || i.Disks[0].ID == i.Disk {
		return nil
	}
	return fmt.Errorf("data directory %s is not the first of node %d: name %s with --data-dir, and this one with --more-data-dirs", path, i.NodeID, i.Disks[0].Dir)
}

// gather checks that the directories found are those on the list, and puts new
// ones on it. It gives each that has none its identity.
func (i *identity) gather(first string, found []foundDir) error {
	list := []diskPlace{{ID: i.Disk, Dir: first}}
	for n := range found {
		f := &found[n]
		at := -1
		if f.known {
			at = slices.IndexFunc(i.Disks, func(d diskPlace) bool { return d.ID == f.identity.Disk })
		}
		if err := i.refuses(f, at); err != nil {
			return err
		}
		session := uint64(0)
		if at > 0 {
			session = i.Disks[at].Session
		} else {
			f.added, f.identity = true, identity{}
			_, _ = rand.Read(f.identity.Disk[:]) // never fails
		}
		if twice := slices.IndexFunc(list, func(d diskPlace) bool { return d.ID == f.identity.Disk }); twice >= 0 {
			return fmt.Errorf("data directories %s and %s have the same disk id: one is a copy of the other; give the one that was in use last", list[twice].Dir, f.path)
		}
		list = append(list, diskPlace{ID: f.identity.Disk, Dir: f.path, Session: session})
	}
	for _, d := range i.Disks {
		if slices.ContainsFunc(list, func(have diskPlace) bool { return have.ID == d.ID }) {
			continue
		}
		hint := ""
		if slices.ContainsFunc(found, func(f foundDir) bool { return f.path == d.Dir }) {
			hint = fmt.Sprintf(" (what is at %s now is empty: is its disk mounted?)", d.Dir)
		}
		return fmt.Errorf("a data directory of node %d is missing: disk %x, last at %s%s: bring it back and name it with --more-data-dirs. %s", i.NodeID, d.ID[:], d.Dir, hint, missingAdvice)
	}
	if i.Disks = list; len(list) == 1 {
		i.Disks = nil
	}
	return nil
}

// missingAdvice is what to do about a disk that is gone for good.
const missingAdvice = "If it is gone for good, empty all data directories of this broker: it joins the cluster anew, and its replicas are made anew from others"

// refuses says why a directory cannot be one of this broker's; at is its place
// on the list, -1 for none.
func (i *identity) refuses(f *foundDir, at int) error {
	switch {
	case at > 0 && f.identity.Session < i.Disks[at].Session:
		return fmt.Errorf("data directory %s is an older copy: it was in use at start %d of this broker last, and there was a start %d with it: bring back what was there", f.path, f.identity.Session, i.Disks[at].Session)
	case at > 0 && i.Disks[at].Session > 0 && !f.used:
		return fmt.Errorf("data directory %s has lost its journal: bring it back. %s", f.path, missingAdvice)
	case at > 0:
		return nil
	case at == 0:
		return fmt.Errorf("data directory %s is a copy of the first: a further one must be empty", f.path)
	case !f.known && f.used:
		return fmt.Errorf("data directory %s has no %s and is not empty: bring that file back, or empty the directory to begin with it", f.path, identityFile)
	case f.other != "":
		return fmt.Errorf("data directory %s is not empty (it holds %s): a further one must be", f.path, f.other)
	case f.used && len(f.identity.Disks) > 0 && f.identity.Disks[0].ID == i.Disk:
		return fmt.Errorf("data directory %s was given up, and its replicas were made anew: empty it to use it again", f.path)
	case f.used || f.known && (len(f.identity.Disks) == 0 || f.identity.Disks[0].ID != i.Disk):
		return fmt.Errorf("data directory %s belongs to another broker: node %d of cluster %q: a further one must be empty", f.path, f.identity.NodeID, f.identity.Cluster)
	}
	return nil
}

// begin counts a start of the broker, and has added directories listed: they get
// their identity first, so that the list names none without.
func (l *lockedDirs) begin(now time.Time) error {
	id := &l.identity
	first := l.dirs[0].path
	id.upgrade()
	if !l.found && len(l.dirs) > 1 {
		alone := *id // the others are to name it
		alone.Disks, alone.Version = nil, identityVersion
		if err := alone.save(first); err != nil {
			return err
		}
	}
	id.begin(now)
	for _, d := range l.dirs {
		if !d.added {
			continue
		}
		if err := id.saveFurther(d); err != nil {
			return err
		}
	}
	return id.save(first)
}

// saveFurther gives a further directory the broker's identity, with a disk id
// of its own.
func (i identity) saveFurther(d *dataDir) error {
	i.Disk, i.Controller = d.id, nil
	return i.save(d.path)
}

// begun notes in all directories, further ones first, that their journals were
// opened at this start: one that has a lower session from then on is older.
func (b *Broker) begun() error {
	if len(b.dirs) == 1 {
		return nil
	}
	next := b.identity
	next.Disks = slices.Clone(next.Disks)
	for i, d := range b.dirs[1:] {
		if err := next.saveFurther(d); err != nil {
			return err
		}
		next.Disks[i+1].Session = next.Session
	}
	if err := next.save(b.cfg.DataDir); err != nil {
		return err
	}
	b.identity = next
	if b.tier != nil {
		b.tier.identity.Disks = next.Disks
	}
	return nil
}

func (b *Broker) openDisk(context.Context) error {
	locked, err := lockDirs(&b.cfg)
	if err != nil {
		return err
	}
	b.dirs = locked.dirs
	for _, d := range b.dirs {
		local, err := disk.NewOS(d.path, b.log)
		if err != nil {
			return fmt.Errorf("open data directory %s: %w", d.path, err)
		}
		d.disk = local
		if b.cfg.disk != nil {
			d.disk = b.cfg.disk(local)
		}
	}
	b.disk = b.dirs[0].disk
	if !locked.identity.known() {
		// A restore that was cut off counts for nothing; its plan is another cluster's.
		if err := os.Remove(filepath.Join(b.cfg.DataDir, restoreFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", restoreFile, err)
		}
	}
	if b.restored, err = loadRestore(b.cfg.DataDir); err != nil {
		return err
	}
	if b.recovery, err = loadRecovery(b.cfg.DataDir); err != nil {
		return err
	}
	if err := locked.begin(time.Now()); err != nil {
		return err
	}
	b.identity = locked.identity
	b.clusterID.Store(&locked.identity.ClusterID)
	return nil
}

// openRaft reads the journals, all at once, and opens the hosts of the groups
// in them.
func (b *Broker) openRaft(context.Context) error {
	recovered := make([][]journal.Group, len(b.dirs))
	var reading errgroup.Group
	for i, d := range b.dirs {
		reading.Go(func() (err error) {
			recovered[i], err = b.openJournal(d)
			return err
		})
	}
	if err := reading.Wait(); err != nil {
		return err
	}
	hs, err := newHosts(b.dirs, recovered)
	if err != nil {
		return err
	}
	if err := b.recovery.reform(hs, recovered, b.log); err != nil {
		return err
	}
	if err := b.begun(); err != nil {
		return err
	}
	b.hosts = hs
	for i, d := range b.dirs {
		if err := saveJournalEnd(d.path, d.journal.End()); err != nil {
			return err
		}
		if err := b.openHost(d, recovered[i]); err != nil {
			return err
		}
	}
	b.loops.Go(func() error { return b.watchJournals(b.done) })
	b.meetPeers()
	return nil
}

func (b *Broker) openJournal(d *dataDir) ([]journal.Group, error) {
	end, err := loadJournalEnd(d.path)
	if err != nil {
		return nil, err
	}
	j, recovered, err := journal.Open(journal.Config{
		FS: d.disk, Dir: journalDir, EndMin: end, ClusterID: b.identity.ClusterID, Incarnation: b.identity.Incarnation,
		Salt: randomUint64, Log: b.log, Beside: beside,
	})
	if errors.Is(err, journal.ErrOlder) {
		return nil, fmt.Errorf("data directory %s has another journal than it had: bring that one back, or empty the directory so that the broker joins anew: %w", d.path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open journal in %s: %w", d.path, err)
	}
	d.journal = j
	return recovered, nil
}

// openHost gives a directory's groups their part of the loops and the memory.
func (b *Broker) openHost(d *dataDir, recovered []journal.Group) (err error) {
	n := len(b.dirs)
	cfg := multiraft.Config{
		Node: b.cfg.NodeID, Shards: max(runtime.GOMAXPROCS(0)/n, 1), Journal: watchedJournal{d.journal, d, b.dead}, Recovered: recovered, Log: b.log,
		HeldBytesMax: b.cfg.Memory / 2 / int64(n), UncommittedBytesMax: b.cfg.Memory / 4 / int64(n), TickEvery: b.cfg.tickEvery,
		InstallsMax: max(multiraft.InstallsMaxDefault/n, 1),
	}
	if b.network != nil {
		cfg.Transport = b.network
	}
	if d.host, err = multiraft.Open(cfg); err != nil {
		return fmt.Errorf("open replication in %s: %w", d.path, err)
	}
	return nil
}

// checkJournal refuses a directory whose journal is gone: its replicas would
// begin anew and forget what they had promised.
func checkJournal(dir string) error {
	for _, beside := range []string{controllerDir, journalEndFile, partitionsDir} {
		if _, err := os.Stat(filepath.Join(dir, beside)); err != nil {
			continue // it has never been there
		}
		if _, err := os.Stat(filepath.Join(dir, journalDir)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data directory %s has lost its journal: bring it back, or empty the directory so that the broker joins anew", dir)
		}
	}
	return nil
}

// watchedJournal tells when it dies: the groups in it stop, and while the
// broker answers heartbeats nobody would look for another leader of them.
type watchedJournal struct {
	*journal.Journal
	dir  *dataDir
	dead chan<- error // holds one
}

func (j watchedJournal) tell(err error) error {
	if errors.Is(err, journal.ErrDead) {
		select {
		case j.dead <- fmt.Errorf("the journal of data directory %s has failed; the broker ends so that others lead what it led: see to its disk, then start again: %w", j.dir.path, err):
		default: // one is enough
		}
	}
	return err
}

// Append implements multiraft.Journal.
func (j watchedJournal) Append(w journal.Write) error { return j.tell(j.Journal.Append(w)) }

// Flush implements multiraft.Journal.
func (j watchedJournal) Flush() error { return j.tell(j.Journal.Flush()) }

// Full says whether no more entries are to be accepted.
func (j watchedJournal) Full() (bool, error) {
	full, err := j.Journal.Full()
	return full, j.tell(err)
}

// Prepare does a step of the journal's own work.
func (j watchedJournal) Prepare() (bool, error) {
	more, err := j.Journal.Prepare()
	return more, j.tell(err)
}

// Carry writes a group's undecided entries again.
func (j watchedJournal) Carry(id record.PartitionID, entries []raftpb.Entry) (bool, error) {
	carried, err := j.Journal.Carry(id, entries)
	return carried, j.tell(err)
}

// watchJournals ends the broker when a journal dies. A broker alone with one
// directory goes on: nobody else could serve what it still can.
func (b *Broker) watchJournals(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-b.dead:
		if b.network == nil && len(b.dirs) == 1 {
			b.log.Error("what is written is refused from now on", "error", err)
			return nil
		}
		return err
	}
}

// closeDirs closes what openDisk and openRaft opened; the groups have stopped.
func (b *Broker) closeDirs() error {
	var errs []error
	for _, d := range b.dirs {
		if d.journal != nil {
			if err := d.journal.Close(); err != nil {
				errs = append(errs, err)
			} else {
				errs = append(errs, saveJournalEnd(d.path, d.journal.End()))
			}
		}
		errs = append(errs, d.unlock())
	}
	return errors.Join(errs...)
}
