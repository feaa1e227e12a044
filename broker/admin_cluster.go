package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"time"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
)

// The cluster as the admin address tells and changes it, in JSON, for
// 'tidewater cluster' and 'tidewater partition'; docs/cluster.md. Any broker
// answers; changes are carried out by the controller, whoever leads it.

// ClusterStatus answers GET /v1/cluster.
type ClusterStatus struct {
	Cluster     string `json:"cluster"`
	Incarnation uint64 `json:"incarnation"`
	// Asked is the broker that answered: the rest is as it sees it.
	Asked int32 `json:"asked"`
	// Controller is the broker that leads the controller's group, -1 if the
	// one asked knows none: then nothing can be changed.
	Controller int32          `json:"controller"`
	Brokers    []BrokerStatus `json:"brokers"`
	Topics     int            `json:"topics"`
	Partitions int            `json:"partitions"`
	// UnderReplicated have replicas that do not answer, Leaderless are not
	// served, Lost cannot elect a leader before a lost replica is back.
	UnderReplicated int           `json:"under_replicated"`
	Leaderless      int           `json:"leaderless"`
	Lost            int           `json:"lost_majority"`
	Balance         BalanceStatus `json:"balance"`
	FeatureLevel    uint32        `json:"feature_level"`
}

// BrokerStatus is one broker of a ClusterStatus.
type BrokerStatus struct {
	ID       int32  `json:"id"`
	Kafka    string `json:"kafka"`
	RPC      string `json:"rpc"`
	Rack     string `json:"rack"`
	Disk     string `json:"disk_id"`
	Build    string `json:"build"` // empty below feature level 2
	State    string `json:"state"` // see stateOf
	Up       bool   `json:"up"`
	Replicas int    `json:"replicas"`
	Led      int    `json:"leaders"` // partitions that it leads
	// OfflineSince is when the controller missed it, null while it does not.
	OfflineSince *time.Time `json:"offline_since"`
}

// BalanceStatus is cluster.Balance.
type BalanceStatus struct {
	Even        bool `json:"even"`
	Moves       int  `json:"moves"`
	Waiting     int  `json:"replicas_to_move"`
	ReplicasMin int  `json:"replicas_min"`
	ReplicasMax int  `json:"replicas_max"`
	LedMin      int  `json:"preferred_leaders_min"`
	LedMax      int  `json:"preferred_leaders_max"`
}

// PartitionStatus is one of GET /v1/partitions.
type PartitionStatus struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"`
	Epoch     int32   `json:"leader_epoch"`
	Replicas  []int32 `json:"replicas"`
	Missing   []int32 `json:"missing"`
	Adding    []int32 `json:"adding"`
	Removing  []int32 `json:"removing"`
	Lost      bool    `json:"lost_majority"`
}

// adminError is what the admin address answers instead.
type adminError struct {
	Error string `json:"error"`
}

// adminBodyMax bounds a request's body: they are a few words.
const adminBodyMax = 64 << 10

// adminTimeout bounds how long a change may wait for the controller.
const adminTimeout = 20 * time.Second

// clusterHandlers adds the cluster's part to the admin address. The controller
// may not be there yet: then the answer says so.
func (b *Broker) clusterHandlers(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/cluster", b.whenKnown(func(*http.Request) (any, error) { return b.clusterStatus(), nil }))
	mux.HandleFunc("GET /v1/partitions", b.whenKnown(func(r *http.Request) (any, error) { return b.partitionStatus(r.URL.Query().Get("topic")) }))
	mux.HandleFunc("PUT /v1/brokers/{id}/maintenance", b.whenKnown(b.onBroker(b.setMode((*cluster.Controller).SetMaintenance))))
	mux.HandleFunc("PUT /v1/brokers/{id}/draining", b.whenKnown(b.onBroker(b.setMode((*cluster.Controller).SetDraining))))
	mux.HandleFunc("DELETE /v1/brokers/{id}", b.whenKnown(b.onBroker(func(ctx context.Context, node int32, _ *http.Request) (any, error) {
		return struct{}{}, b.controller.UnregisterBroker(ctx, node)
	})))
	mux.HandleFunc("PUT /v1/topics/{name}/replicas", b.whenKnown(b.setReplicas))
}

// whenKnown answers with what do gives, once this broker knows its cluster.
func (b *Broker) whenKnown(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, adminBodyMax)
		var answer any
		err := errNotKnown
		if b.known.Load() {
			answer, err = do(r)
		}
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(adminCode(err))
			answer = adminError{err.Error()}
		}
		_ = json.NewEncoder(w).Encode(answer) // a client that went away is no loss
	}
}

var (
	errNotKnown   = fmt.Errorf("%w: this broker has not found its cluster yet; its log says what it waits for", cluster.ErrNotReady)
	errAdminInput = errors.New("the request is not understood")
)

// adminCode is the HTTP status of an error.
func adminCode(err error) int {
	switch {
	case errors.Is(err, cluster.ErrUnknownBroker), errors.Is(err, cluster.ErrUnknownTopic):
		return http.StatusNotFound
	case errors.Is(err, errAdminInput), errors.Is(err, cluster.ErrInvalidReplicationFactor):
		return http.StatusBadRequest
	case errors.Is(err, cluster.ErrInvalidRequest), errors.Is(err, cluster.ErrMoving):
		return http.StatusConflict
	case errors.Is(err, cluster.ErrNotController), errors.Is(err, cluster.ErrNotReady), errors.Is(err, cluster.ErrUnknownOutcome):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// onBroker reads the broker's id from the path.
func (b *Broker) onBroker(do func(ctx context.Context, node int32, r *http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%w: broker id %q", errAdminInput, r.PathValue("id"))
		}
		if b.controller.View().Broker(int32(id)) == nil {
			return nil, fmt.Errorf("%w: %d; there are %v", cluster.ErrUnknownBroker, id, b.brokerIDs())
		}
		ctx, stop := context.WithTimeout(r.Context(), adminTimeout)
		defer stop()
		return do(ctx, int32(id), r)
	}
}

func (b *Broker) brokerIDs() []int32 {
	var ids []int32
	for _, o := range b.controller.View().Brokers() {
		ids = append(ids, o.ID)
	}
	return ids
}

// body reads a request that changes something. It must say that it is JSON: a
// web page that a browser shows cannot, without the browser asking first.
func body(r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return fmt.Errorf("%w: its content type must be application/json", errAdminInput)
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errAdminInput, err)
	}
	return nil
}

func (b *Broker) setMode(set func(*cluster.Controller, context.Context, int32, bool) error) func(context.Context, int32, *http.Request) (any, error) {
	return func(ctx context.Context, node int32, r *http.Request) (any, error) {
		var want struct {
			On *bool `json:"on"`
		}
		if err := body(r, &want); err != nil {
			return nil, err
		}
		if want.On == nil {
			return nil, fmt.Errorf(`%w: want {"on": true} or {"on": false}`, errAdminInput)
		}
		return struct{}{}, set(b.controller, ctx, node, *want.On)
	}
}

func (b *Broker) setReplicas(r *http.Request) (any, error) {
	var want struct {
		Replicas int `json:"replicas"`
	}
	if err := body(r, &want); err != nil {
		return nil, err
	}
	t := b.controller.View().TopicByName(r.PathValue("name"))
	if t == nil {
		return nil, fmt.Errorf("%w: %s", cluster.ErrUnknownTopic, r.PathValue("name"))
	}
	ctx, stop := context.WithTimeout(r.Context(), adminTimeout)
	defer stop()
	n, err := b.controller.SetReplicas(ctx, t.ID, want.Replicas)
	return struct {
		Moving int `json:"moving"`
	}{n}, err
}

// observer is what this broker sees itself.
func (b *Broker) observer() cluster.Observer {
	return cluster.Observer{Up: b.up, Leader: func(id record.PartitionID) (int32, record.LeaderEpoch, bool) {
		if b.replica != nil {
			return 0, 0, false
		}
		h, err := b.parts.get(id)
		if err != nil {
			return 0, 0, false
		}
		l := h.Leadership()
		return l.Leader, record.LeaderEpoch(l.Term), true
	}}
}

func (b *Broker) clusterStatus() *ClusterStatus {
	v := b.controller.View()
	health := v.Health(b.observer())
	s := &ClusterStatus{Cluster: b.ClusterID(), Incarnation: b.identity.Incarnation, Asked: b.cfg.NodeID,
		Controller: b.controller.Leadership().Leader, Topics: v.TopicCount(), Partitions: len(health), FeatureLevel: v.FeatureLevel()}
	led := map[int32]int{}
	for i := range health {
		h := &health[i]
		led[h.Leader]++
		s.UnderReplicated += count(h.UnderReplicated())
		s.Leaderless += count(h.Leaderless())
		s.Lost += count(h.Lost)
	}
	for _, o := range v.Brokers() {
		s.Brokers = append(s.Brokers, b.brokerStatus(v, o, led[o.ID]))
	}
	l := v.Balance()
	s.Balance = BalanceStatus{Even: l.Even(), Moves: l.Moves, Waiting: l.Waiting, ReplicasMin: l.ReplicasMin, ReplicasMax: l.ReplicasMax, LedMin: l.LedMin, LedMax: l.LedMax}
	return s
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

func (b *Broker) brokerStatus(v *cluster.View, o *cluster.Broker, led int) BrokerStatus {
	s := BrokerStatus{ID: o.ID, RPC: o.RPCAddr, Rack: o.Rack, Disk: fmt.Sprintf("%x", o.Disk), Build: o.Build, Up: b.up(o.ID), Replicas: v.Load(o.ID).Replicas, Led: led}
	if l, ok := o.Listener(listenerKafka); ok {
		s.Kafka = fmt.Sprintf("%s:%d", l.Host, l.Port)
	}
	if o.Offline && o.OfflineSinceMs > 0 {
		at := time.UnixMilli(o.OfflineSinceMs).UTC()
		s.OfflineSince = &at
	}
	s.State = stateOf(o, s.Up)
	return s
}

// stateOf is a broker's state in a word: what keeps it from work first.
func stateOf(o *cluster.Broker, up bool) string {
	switch {
	case !up && o.Draining:
		return "offline, decommissioning"
	case !up:
		return "offline"
	case len(o.Listeners) == 0:
		return "starting"
	case o.Draining:
		return "decommissioning"
	case o.Maintenance:
		return "maintenance"
	}
	return "active"
}

// partitionStatus lists the partitions of a topic, or all.
func (b *Broker) partitionStatus(topic string) ([]PartitionStatus, error) {
	v := b.controller.View()
	if topic != "" && v.TopicByName(topic) == nil {
		return nil, fmt.Errorf("%w: %s", cluster.ErrUnknownTopic, topic)
	}
	all := v.Health(b.observer())
	out := make([]PartitionStatus, 0, len(all))
	for i := range all {
		h := &all[i]
		if topic == "" || topic == h.Topic {
			out = append(out, PartitionStatus{Topic: h.Topic, Partition: h.Partition, Leader: h.Leader, Epoch: int32(h.Epoch),
				Replicas: listed(h.Replicas), Missing: listed(h.Missing), Adding: listed(h.Adding), Removing: listed(h.Removing), Lost: h.Lost})
		}
	}
	return out, nil
}

// listed is a list that JSON shows as one when it is empty.
func listed(nodes []int32) []int32 {
	if nodes == nil {
		return []int32{}
	}
	return slices.Clone(nodes)
}
