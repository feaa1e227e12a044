package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tidewater/broker/cluster"
	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/broker/partition"
	"tidewater/broker/peer"
	"tidewater/internal/disk"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
	"tidewater/tiering/manifest"
)

// recoverFile holds a recovery that was decided, until the broker has carried
// it out at its next start.
const recoverFile = "recover.json"

const recoverVersion = 1

// recoverPlan is recoverFile; docs/formats/data-directory.md.
type recoverPlan struct {
	Version int             `json:"version"`
	Command []byte          `json:"command"` // of the controller's log: a Recover
	Groups  []reformedGroup `json:"groups"`

	command *cluster.Recover
}

type reformedGroup struct {
	Topic     string `json:"topic_id"` // of no topic: the controller
	Partition int32  `json:"partition"`
	Replica   uint64 `json:"replica"`
	AboveTerm uint64 `json:"above_term"`
}

// RecoverReport says what a recovery from a lost majority would do, or will.
type RecoverReport struct {
	Cluster string  `json:"cluster"`
	Node    int32   `json:"node"`
	Lost    []int32 `json:"lost"`
	// Controller: the controller's group makes a new start, too. What it
	// decided and this broker had not heard of is lost.
	Controller bool                 `json:"controller"`
	Partitions []RecoveredPartition `json:"partitions"`
	// Gone have lost their majority and have no replica here; nothing is done
	// about them.
	Gone []string `json:"gone"`
}

// RecoveredPartition is one partition of a RecoverReport.
type RecoveredPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Committed is the offset up to which all acked records are surely here
	// that were acked when this broker last heard of it; End is where its log
	// ends. Records acked later, from Committed on, may be others than those
	// here, or missing.
	Committed int64 `json:"committed_to"`
	End       int64 `json:"log_end"`
	// Epoch is the leader epoch it knows, NewEpoch the one it goes on in, at
	// the least.
	Epoch    uint64 `json:"leader_epoch"`
	NewEpoch uint64 `json:"new_leader_epoch"`
}

// Recovery is a planned recovery; Close it.
type Recovery struct {
	Report RecoverReport
	cfg    Config
	plan   recoverPlan
	locked *lockedDirs
}

// Close lets go of the data directories.
func (r *Recovery) Close() error { return r.locked.unlock() }

// Commit decides for the recovery: the broker carries it out at its next start.
func (r *Recovery) Commit() error {
	text, err := json.MarshalIndent(r.plan, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(r.cfg.DataDir, recoverFile), append(text, '\n'))
}

// CancelRecovery takes back a recovery that was decided and not carried out.
func CancelRecovery(cfg Config) error {
	unlock, err := disk.Lock(cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	err = os.Remove(filepath.Join(cfg.DataDir, recoverFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: no recovery waits in %s", cluster.ErrNoRecovery, cfg.DataDir)
	}
	return err
}

// PlanRecovery looks at a broker's data directory, whose process has ended, and
// plans what it goes on with when the brokers lost are gone for good. It
// changes nothing. It is refused while one of them answers, and for a tiered
// partition of which the bucket holds more than this broker.
func PlanRecovery(ctx context.Context, cfg Config, lost []int32, log *slog.Logger) (_ *Recovery, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, identityFile)); err != nil {
		return nil, fmt.Errorf("%w: %s is no broker's data directory: %w", cluster.ErrNoRecovery, cfg.DataDir, err)
	}
	r := &Recovery{cfg: cfg}
	if r.locked, err = lockDirs(&cfg); errors.Is(err, disk.ErrLocked) {
		return nil, fmt.Errorf("%w: end this broker's process first: %w", cluster.ErrNoRecovery, err)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrNoRecovery, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.locked.unlock())
		}
	}()
	id := r.locked.identity
	if id.Controller == nil {
		return nil, fmt.Errorf("%w: data directory %s belongs to no cluster", cluster.ErrNoRecovery, cfg.DataDir)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, recoverFile)); err == nil {
		return nil, fmt.Errorf("%w: a recovery was decided already: start the broker, or take it back with --cancel", cluster.ErrNoRecovery)
	}
	return r, r.look(ctx, &id, lost, log)
}

// look reads what the directory holds and makes plan and report.
func (r *Recovery) look(ctx context.Context, id *identity, lost []int32, log *slog.Logger) error {
	groups, err := r.journals(id, log)
	if err != nil {
		return err
	}
	known := map[record.PartitionID]*journal.Group{}
	for i := range groups {
		known[groups[i].ID] = &groups[i]
	}
	own := known[cluster.GroupID()]
	if own == nil {
		return fmt.Errorf("%w: the journal of %s has no controller", cluster.ErrNoRecovery, r.cfg.DataDir)
	}
	v, err := cluster.RecoveredView(filepath.Join(r.cfg.DataDir, controllerDir), own, log)
	if err != nil {
		return err
	}
	plan, err := cluster.PlanRecovery(v, r.cfg.NodeID, lost, groups)
	if err != nil {
		return err
	}
	if err := noneAnswers(ctx, r.cfg, id, v, plan.Command.Lost, log); err != nil {
		return err
	}
	if err := r.describe(ctx, id, v, plan, known, lost); err != nil {
		return err
	}
	r.plan = recoverPlan{Version: recoverVersion, Command: cluster.EncodeCommand(nil, cluster.RequestID{}, &plan.Command)}
	for _, g := range plan.Groups {
		r.plan.Groups = append(r.plan.Groups, reformedGroup{Topic: g.ID.Topic.String(), Partition: g.ID.Partition, Replica: g.Replica, AboveTerm: g.AboveTerm})
	}
	return nil
}

// journals reads the groups that the directories' journals hold.
func (r *Recovery) journals(id *identity, log *slog.Logger) ([]journal.Group, error) {
	var all []journal.Group
	for _, d := range r.locked.dirs {
		groups, err := readJournal(d.path, id, log)
		if err != nil {
			return nil, err
		}
		all = append(all, groups...)
	}
	slices.SortFunc(all, func(a, b journal.Group) int { return a.ID.Compare(b.ID) })
	return all, nil
}

// readJournal gives the groups in a directory's journal, none if it never had one.
func readJournal(dir string, id *identity, log *slog.Logger) ([]journal.Group, error) {
	if _, err := os.Stat(filepath.Join(dir, journalDir)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	local, err := disk.NewOS(dir, log)
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", dir, err)
	}
	end, err := loadJournalEnd(dir)
	if err != nil {
		return nil, err
	}
	j, groups, err := journal.Open(journal.Config{FS: local, Dir: journalDir, EndMin: end, ClusterID: id.ClusterID, Incarnation: id.Incarnation, Salt: randomUint64, Log: log})
	if err != nil {
		return nil, fmt.Errorf("open journal in %s: %w", dir, err)
	}
	return groups, j.Close()
}

// describe fills in the report, and refuses what would part log and bucket.
func (r *Recovery) describe(ctx context.Context, id *identity, v *cluster.View, plan *cluster.RecoveryPlan, known map[record.PartitionID]*journal.Group, lost []int32) error {
	r.Report = RecoverReport{Cluster: id.Cluster, Node: r.cfg.NodeID, Lost: lost, Controller: plan.Command.Controller != 0}
	var ahead []error
	for _, g := range plan.Groups {
		t := v.Topic(g.ID.Topic)
		if t == nil {
			continue // the controller's
		}
		committed, end, err := partition.JournalEnds(known[g.ID])
		if err != nil {
			return err
		}
		r.Report.Partitions = append(r.Report.Partitions, RecoveredPartition{Topic: t.Name, Partition: g.ID.Partition, Committed: int64(committed),
			End: int64(end), Epoch: known[g.ID].HardState.Term, NewEpoch: g.AboveTerm + 1})
		if err := r.behindBucket(ctx, id, t, g.ID, committed); err != nil {
			ahead = append(ahead, err)
		}
	}
	for _, p := range plan.Gone {
		r.Report.Gone = append(r.Report.Gone, fmt.Sprintf("%s-%d", v.Topic(p.Topic).Name, p.Partition))
	}
	if len(ahead) > 0 {
		return fmt.Errorf("%w: %w", cluster.ErrNoRecovery, errors.Join(ahead...))
	}
	return nil
}

// behindBucket refuses a tiered partition whose manifest ends above what this
// broker knows to be committed: offsets would be given out a second time, with
// other records than those in bucket and table.
func (r *Recovery) behindBucket(ctx context.Context, id *identity, t *cluster.Topic, p record.PartitionID, committed record.Offset) error {
	s, _ := topicconfig.Parse(t.Configs)
	if !s.Tiered || !id.InBucket {
		return nil
	}
	if r.cfg.Bucket == "" {
		return fmt.Errorf("topic %s is in a bucket: name it with --bucket, to see that it holds no more than this broker", t.Name)
	}
	store, err := openStore(r.cfg)
	if err != nil {
		return err
	}
	m := manifest.NewReader(store, manifest.Dir{Layout: manifest.Layout{ClusterID: id.ClusterID, Incarnation: uint32(id.Incarnation)}, Topic: t.Name, ID: p})
	err = m.Load(ctx)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the manifest of %s-%d: %w", t.Name, p.Partition, err)
	}
	if end := m.Current().End; end > committed {
		return fmt.Errorf("the bucket holds %s-%d up to offset %d, this broker knows it up to %d: 'tidewater restore' from the bucket loses less",
			t.Name, p.Partition, end, committed)
	}
	return nil
}

// probeTimeout bounds how long a broker that is taken for lost may take to
// answer.
const probeTimeout = 3 * time.Second

// noneAnswers refuses a recovery while a broker that is named as lost answers
// with the disk that it had.
func noneAnswers(ctx context.Context, cfg Config, id *identity, v *cluster.View, lost []cluster.LostBroker, log *slog.Logger) error {
	secrets, err := cfg.rpcTLS()
	if err != nil {
		return err
	}
	host := "127.0.0.1:0" // nobody is to find it
	n, err := peer.Open(peer.Config{Node: cfg.NodeID, Boot: id.Session, Addr: host, TLS: secrets, Log: log,
		ClusterID: func() [16]byte { return id.ClusterID }, Receive: func([]multiraft.Message) {}})
	if err != nil {
		return err
	}
	defer n.Close()
	return answering(ctx, secured{peers{n}, cfg.RPCCA}, v, lost)
}

func answering(ctx context.Context, ps cluster.Peers, v *cluster.View, lost []cluster.LostBroker) error {
	ctx, stop := context.WithTimeout(ctx, probeTimeout)
	defer stop()
	for _, l := range lost {
		b := v.Broker(l.Node)
		if b == nil || b.RPCAddr == "" {
			continue
		}
		if up := cluster.Answers(ctx, ps, b.RPCAddr, l); up {
			return fmt.Errorf("%w: broker %d answers at %s with its old disk: it is not lost, and a majority may be up; end it for good first, or do without a recovery",
				cluster.ErrNoRecovery, l.Node, b.RPCAddr)
		}
	}
	return nil
}

// loadRecovery reads the plan of a data directory, nil if there is none.
func loadRecovery(dir string) (*recoverPlan, error) {
	path := filepath.Join(dir, recoverFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	p := &recoverPlan{}
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if p.Version != recoverVersion {
		return nil, fmt.Errorf("%s has version %d, this build reads %d: start with the build that planned it", path, p.Version, recoverVersion)
	}
	_, cmd, err := cluster.DecodeCommand(p.Command)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var ok bool
	if p.command, ok = cmd.(*cluster.Recover); !ok {
		return nil, fmt.Errorf("read %s: it holds another command", path)
	}
	return p, nil
}

// recoveredMembership is the broker's place once the recovery counts.
func (p *recoverPlan) recoveredMembership(m cluster.Membership) cluster.Membership {
	if p == nil {
		return m
	}
	r := cluster.RecoveryPlan{Command: *p.command}
	return r.Recovered(m)
}

// reform rewrites the groups of the plan in the journals, once. recovered is
// what each directory's journal held.
func (p *recoverPlan) reform(hs *hosts, recovered [][]journal.Group, log *slog.Logger) error {
	if p == nil {
		return nil
	}
	for _, r := range p.Groups {
		topic, err := record.ParseTopicID(r.Topic)
		if err != nil {
			return fmt.Errorf("read %s: %w", recoverFile, err)
		}
		id := record.PartitionID{Topic: topic, Partition: r.Partition}
		d := hs.of(id)
		if d == nil {
			return fmt.Errorf("recover group %s: no journal holds it", id)
		}
		groups := recovered[slices.Index(hs.dirs, d)]
		at := slices.IndexFunc(groups, func(g journal.Group) bool { return g.ID == id })
		if at < 0 {
			return fmt.Errorf("recover group %s: the journal of %s does not hold it", id, d.path)
		}
		w, changed, err := multiraft.Reform(&groups[at], r.Replica, r.AboveTerm)
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		if err := d.journal.Append(w); err != nil {
			return fmt.Errorf("recover group %s: %w", id, err)
		}
		log.Warn("a group that lost its majority makes a new start with what this broker has", "group", id, "replica", r.Replica, "above_term", r.AboveTerm)
	}
	for _, d := range hs.dirs {
		if err := d.journal.Flush(); err != nil {
			return fmt.Errorf("recover groups in %s: %w", d.path, err)
		}
	}
	return nil
}

// finishRecovery commits the recovery to the controller's log, and makes the
// new membership last.
func (b *Broker) finishRecovery(ctx context.Context) error {
	if b.recovery == nil {
		return nil
	}
	for {
		err := b.controller.Recover(ctx, b.recovery.command)
		if err == nil {
			break
		}
		if b.network == nil || ctx.Err() != nil || errors.Is(err, cluster.ErrUnknownBroker) {
			return fmt.Errorf("recover from a lost majority: %w", err)
		}
		b.log.Warn("the controller does not take the recovery yet", "error", err)
		select {
		case <-time.After(againAfter):
		case <-ctx.Done():
		}
	}
	if err := b.saveMembership(b.member); err != nil {
		return err
	}
	path := filepath.Join(b.cfg.DataDir, recoverFile)
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("end the recovery: %w", err)
	}
	b.log.Warn("recovered from a lost majority", "lost", b.recovery.command.Lost, "partitions", len(b.recovery.command.Partitions))
	b.recovery = nil
	return nil
}

// stillPlaced asks the others, before any group is started, whether the cluster
// goes on without this broker.
func (b *Broker) stillPlaced(ctx context.Context, m *cluster.Membership) error {
	if b.network == nil || b.recovery != nil {
		return nil
	}
	addrs := b.cfg.seeds()
	for _, o := range m.Members {
		if o.Addr != "" && !slices.Contains(addrs, o.Addr) {
			addrs = append(addrs, o.Addr)
		}
	}
	addrs = slices.DeleteFunc(addrs, func(addr string) bool { return addr == b.rpcAdvertised() })
	return cluster.StillPlaced(ctx, secured{peers{b.network}, b.cfg.RPCCA}, addrs, b.registration(), m.Replica, placeTimeout)
}

// placeTimeout bounds how long a start waits for others that do not answer.
const placeTimeout = 2 * time.Second
