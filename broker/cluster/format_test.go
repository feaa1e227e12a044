package cluster

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"tidewater/internal/record"
)

// samples is one command of each kind.
func samples() map[string]Command {
	id := record.TopicID{0xaa, 0xbb}
	return map[string]Command{
		"bootstrap": &Bootstrap{Identity: Identity{[16]byte{1, 2}, 3}, FeatureLevel: 1, Restoring: true,
			Founders: []Member{{Node: 2, Replica: 1, Disk: [16]byte{5}, Addr: "h:33145"}}},
		"register-broker": &RegisterBroker{Registration: Registration{ID: 1, Boot: [16]byte{9}, Rack: "r1",
			Listeners: []Listener{{"kafka", "h", 9092}}, Disk: [16]byte{5}, RPCAddr: "h:33145", Session: 3, FeatureMin: 1, FeatureMax: 2},
			ReplaceDisk: true},
		"create-topic": &CreateTopic{ID: id, Name: "t", Internal: true, CreatedMs: 1000,
			Assignment: [][]int32{{1, 2}, {2}}, Configs: map[string]string{"b": "2", "a": "1"}},
		"delete-topic": &DeleteTopic{Deletion{Topic: id, Name: "t", DeletedMs: 5, Partitions: 2, KeepObjects: true,
			Tiered: true, Namespace: "n"}},
		"create-partitions":     &CreatePartitions{Topic: id, From: 2, Assignment: [][]int32{{1}}},
		"set-topic-configs":     &SetTopicConfigs{Topic: id, Expected: 4, Props: map[string]string{"a": ""}},
		"allocate-producer-ids": &AllocateProducerIDs{Count: 1000},
		"set-broker-configs":    &SetBrokerConfigs{Node: ClusterDefault, Expected: 1, Props: map[string]string{"k": "v"}},
		"report-leaders":        &ReportLeaders{[]LeaderReport{{record.PartitionID{Topic: id, Partition: 1}, 2, 7}}},
		"restore": &Restore{Topics: []*Topic{sampleTopic()}, Deletions: []*Deletion{{Topic: id}},
			KeptTables: []*KeptTable{{Topic: id, Name: "t", Namespace: "n"}}, ClusterConfigs: map[string]string{"k": "v"},
			ProducerIDFloor: 6, ReplicaIDFloor: 8, Final: true},
		"forget-deletions":  &ForgetDeletions{[]record.TopicID{id}},
		"forget-kept-table": &ForgetKeptTable{id},
		"register-broker-3": &RegisterBroker{Registration: Registration{ID: 1, Boot: [16]byte{9}, Disk: [16]byte{5}, Session: 3,
			FeatureMin: 1, FeatureMax: 2, Build: "v1.2"}},
		"set-feature-level": &SetFeatureLevel{2},
		"set-liveness":      &SetLiveness{NowMs: 7, Offline: []int32{2}, Online: []int32{1, 3}},
		"move-partitions": &MovePartitions{NowMs: 9, Ops: []MoveOp{{Partition: record.PartitionID{Topic: id, Partition: 1}, Expected: []uint64{4, 5},
			Target: []int32{1, 2}}, {Partition: record.PartitionID{Topic: id}}}},
		"step-move":         &StepMove{Partition: record.PartitionID{Topic: id}, Adding: []uint64{6}, Removing: []uint64{4}, Done: true},
		"set-broker-mode":   &SetBrokerMode{Node: 2, Maintenance: true},
		"unregister-broker": &UnregisterBroker{Node: 2},
		"recover": &Recover{Node: 1, Controller: 9, Lost: []LostBroker{{Node: 2, Disk: [16]byte{5}}}, Partitions: []RecoveredReplica{{record.PartitionID{Topic: id}, 4, 8}},
			ReplicaIDFloor: 10, ControllerIDFloor: 11, ProducerIDFloor: 12},
	}
}

func sampleTopic() *Topic {
	return &Topic{ID: record.TopicID{7}, Name: "t.x", CreatedMs: 4, ConfigVersion: 2, Configs: map[string]string{"a": "b"},
		Partitions: []Partition{{Replicas: []Replica{{1, 10}, {2, 11}}, Leader: 2, LeaderEpoch: 3}, {Leader: NoLeader, LeaderEpoch: -1},
			{Replicas: []Replica{{3, 14}, {1, 12}}, Leader: 1, LeaderEpoch: 2, Moved: true, Move: &Move{Adding: []uint64{14},
				Removing: []uint64{12}, Before: []uint64{12}, Joining: true, StartedMs: 7}}}}
}

func sampleView() *View {
	v := emptyView()
	v.identity, v.applied, v.term, v.featureLevel = Identity{[16]byte{1}, 2}, 30, 4, 1
	v.nextProducerID, v.nextReplicaID, v.nextControllerID = 5000, 12, 3
	t := sampleTopic()
	v.topics[t.ID], v.names[t.Name] = t, t
	v.brokers[1] = &Broker{ID: 1, Boot: [16]byte{9}, BootCount: 3, Listeners: []Listener{{"kafka", "h", 9092}}, Disk: [16]byte{5},
		RPCAddr: "h:33145", Session: 4, Controller: 2, ReplicaFloor: 6, FeatureMin: 1, FeatureMax: 2, Offline: true, OfflineSinceMs: 8, Maintenance: true}
	v.brokers[2] = &Broker{ID: 2, BootCount: 1, Controller: 3, FeatureMin: 1, FeatureMax: 2, Build: "v1.2"}
	v.sessions[1] = &session{number: 4, top: 2, done: [sessionWindow / 64]uint64{6}}
	v.deletions[record.TopicID{8}] = &Deletion{Topic: record.TopicID{8}, Name: "gone", Partitions: 1}
	v.keptTables[record.TopicID{8}] = &KeptTable{Topic: record.TopicID{8}, Name: "gone", Namespace: "topics"}
	v.brokerConfigs[ClusterDefault] = &brokerConfig{map[string]string{"log.retention.ms": "1"}, 1}
	return &v
}

// The bytes of every format are what docs/formats says, for good.
func TestGoldenBytes(t *testing.T) {
	datadriven.RunTest(t, "testdata/formats", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "command":
			cmd := samples()[d.CmdArgs[0].Key]
			b := EncodeCommand(nil, RequestID{Node: 1, Session: 2, Seq: 3}, cmd)
			if _, _, err := DecodeCommand(b); err != nil {
				t.Error(err)
			}
			return hex.EncodeToString(b) + "\n"
		case "entities":
			var out strings.Builder
			v := sampleView()
			for _, k := range v.keys() {
				fmt.Fprintf(&out, "%x = %x\n", k, v.stored(k))
			}
			return out.String()
		case "metadata":
			return hex.Dump(sampleView().Export())
		}
		d.Fatalf(t, "unknown command %s", d.Cmd)
		return ""
	})
	script, err := os.ReadFile("testdata/formats")
	if err != nil {
		t.Fatal(err)
	}
	for name := range samples() {
		if !strings.Contains(string(script), "command "+name+"\n") {
			t.Errorf("no golden bytes for %s", name)
		}
	}
}

// What earlier builds wrote is read: kept bytes, and what they mean now.
func TestOldVersions(t *testing.T) {
	datadriven.RunTest(t, "testdata/formats-1", func(t *testing.T, d *datadriven.TestData) string {
		b, err := hex.DecodeString(strings.TrimSpace(d.Input))
		if err != nil {
			t.Fatal(err)
		}
		switch d.Cmd {
		case "command":
			_, cmd, err := DecodeCommand(b)
			if err != nil {
				t.Fatal(err)
			}
			return hex.EncodeToString(EncodeCommand(nil, RequestID{}, cmd)) + "\n"
		case "entity":
			key, _ := hex.DecodeString(d.CmdArgs[0].Vals[0])
			v := emptyView()
			if err := v.load(string(key), b); err != nil {
				t.Fatal(err)
			}
			now := v.stored(string(key))
			return fmt.Sprintf("%x\n", now)
		}
		d.Fatalf(t, "unknown command %s", d.Cmd)
		return ""
	})
}

// Unknown versions, kinds and damaged bytes are refused by name.
func TestRefusedByName(t *testing.T) {
	good := EncodeCommand(nil, RequestID{}, &AllocateProducerIDs{Count: 1})
	for name, change := range map[string]func([]byte) []byte{
		"newer version": func(b []byte) []byte { b[1], b[2] = 9, 9; return b },
		"kind":          func(b []byte) []byte { b[4] = 99; return b },
		"magic":         func(b []byte) []byte { b[0] = 0; return b },
		"cut":           func(b []byte) []byte { return b[:len(b)-1] },
		"after the end": func(b []byte) []byte { return append(b, 0) },
	} {
		if _, _, err := DecodeCommand(change(bytes.Clone(good))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// A newer writer that older readers may read is read.
	if _, _, err := DecodeCommand(append([]byte{commandMagic, 7, 2}, good[3:]...)); err != nil {
		t.Errorf("version 7 for readers from 2: %v", err)
	}
	blob := sampleView().Export()
	for i := range blob {
		broken := bytes.Clone(blob)
		broken[i] ^= 0x40
		if _, err := DecodeView(broken); !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d flipped: got %v", i, err)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, cmd := range samples() {
		f.Add(EncodeCommand(nil, RequestID{}, cmd))
		f.Add(EncodeCommand(nil, RequestID{Node: 1, Session: 2, Seq: 3}, cmd))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		id, cmd, err := DecodeCommand(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("error is not ErrFormat: %v", err)
			}
			return
		}
		again := EncodeCommand(nil, id, cmd) // in the newest version
		if _, twice, err := DecodeCommand(again); err != nil || !bytes.Equal(EncodeCommand(nil, id, twice), again) {
			t.Fatalf("decoded and encoded, %v:\n%x\n%x", err, b, again)
		}
		_, _ = NewState().Apply(1, 1, id, cmd) // must not panic, whatever it says
	})
}

func FuzzDecodeView(f *testing.F) {
	f.Add(sampleView().Export())
	e := emptyView()
	f.Add(e.Export())
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := DecodeView(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("error is not ErrFormat: %v", err)
			}
			return
		}
		again := v.Export() // in the newest version
		if twice, err := DecodeView(again); err != nil || !bytes.Equal(twice.Export(), again) {
			t.Fatalf("decoded and encoded differ: %v", err)
		}
	})
}

func FuzzLoadEntity(f *testing.F) {
	v := sampleView()
	for _, k := range v.keys() {
		f.Add(k, v.stored(k))
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		v := emptyView()
		if v.load(key, value) == nil && value[0] == entityVersion && !bytes.Equal(v.stored(key), value) {
			t.Fatalf("key %q: decoded and encoded differ", key)
		}
	})
}
