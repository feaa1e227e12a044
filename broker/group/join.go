package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// memberIDRequiredVersion is the JoinGroup version from which a new member is
// given an id first and joins with it (KIP-394), so that a client that gives
// up leaves no member behind.
const memberIDRequiredVersion = 4

// skipAssignmentVersion is the JoinGroup version from which a leader can be
// told not to assign (KIP-814).
const skipAssignmentVersion = 9

func (c *core) refuseJoin(w *waitingJoin, memberID string, code int16) {
	r := w.req.ResponseKind().(*kmsg.JoinGroupResponse)
	r.ErrorCode, r.MemberID, r.Generation = code, memberID, -1
	if w.req.Version < 7 {
		r.Protocol = kmsg.StringPtr("") // null is allowed from version 7 on
	}
	c.answer(w.reply, r)
}

// join handles JoinGroup.
func (c *core) join(now time.Time, cl Client, req *kmsg.JoinGroupRequest, reply func(kmsg.Response)) {
	w := &waitingJoin{req, reply}
	session := time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	if code := c.blocked(req.Group); code != 0 {
		c.refuseJoin(w, req.MemberID, code)
		return
	}
	if session < c.cfg.SessionMin || session > c.cfg.SessionMax {
		c.refuseJoin(w, req.MemberID, kerr.InvalidSessionTimeout.Code)
		return
	}
	g := c.groups[req.Group]
	if g == nil {
		if req.MemberID != "" {
			c.refuseJoin(w, req.MemberID, kerr.UnknownMemberID.Code)
			return
		}
		g = newGroup(req.Group, now)
		c.groups[g.id] = g
		defer c.dropUnused(g)
	}
	if code := c.canJoin(g, req); code != 0 {
		c.refuseJoin(w, req.MemberID, code)
		return
	}
	switch {
	case req.MemberID == "" && req.InstanceID != nil:
		c.joinStatic(g, now, cl, w)
	case req.MemberID == "":
		c.joinNew(g, now, cl, w)
	default:
		c.joinKnown(g, now, cl, w)
	}
}

// dropUnused removes a group that a refused request made.
func (c *core) dropUnused(g *group) {
	if g.state == empty && len(g.members) == 0 && len(g.pending) == 0 && len(g.offsets) == 0 && g.writes == 0 && g.generation == 0 {
		delete(c.groups, g.id)
	}
}

// canJoin checks what does not depend on who asks.
func (c *core) canJoin(g *group, req *kmsg.JoinGroupRequest) int16 {
	switch {
	case g.state == dead:
		return kerr.CoordinatorNotAvailable.Code
	case !g.accepts(req.ProtocolType, req.Protocols):
		return kerr.InconsistentGroupProtocol.Code
	case req.MemberID == "" && len(g.members)+len(g.pending) >= c.cfg.MembersMax &&
		(req.InstanceID == nil || g.byInstance(*req.InstanceID) == nil):
		return kerr.GroupMaxSizeReached.Code
	}
	return 0
}

// joinNew gives a new dynamic member its id, and takes it in if the version
// does not ask for a second request.
func (c *core) joinNew(g *group, now time.Time, cl Client, w *waitingJoin) {
	id := c.newMemberID(cl.ID)
	if w.req.Version >= memberIDRequiredVersion {
		lapse := now.Add(time.Duration(w.req.SessionTimeoutMillis) * time.Millisecond)
		g.pending[id] = lapse
		c.wake(g, lapse)
		c.refuseJoin(w, id, kerr.MemberIDRequired.Code)
		return
	}
	c.addMember(g, now, cl, w, id)
}

// joinStatic takes in a static member that does not know its id: a new one, or
// one that restarted, which replaces itself.
func (c *core) joinStatic(g *group, now time.Time, cl Client, w *waitingJoin) {
	id := c.newMemberID(*w.req.InstanceID)
	if old := g.byInstance(*w.req.InstanceID); old != nil {
		c.replaceStatic(g, old, now, cl, w, id)
		return
	}
	c.addMember(g, now, cl, w, id)
}

func (c *core) joinKnown(g *group, now time.Time, cl Client, w *waitingJoin) {
	req := w.req
	if _, was := g.pending[req.MemberID]; was && req.InstanceID == nil {
		delete(g.pending, req.MemberID)
		c.addMember(g, now, cl, w, req.MemberID)
		return
	}
	m, code := g.find(req.MemberID, req.InstanceID)
	if code != 0 {
		c.refuseJoin(w, req.MemberID, code)
		return
	}
	same := m.matches(req.Protocols)
	switch {
	case g.state == preparingRebalance:
		c.rejoin(g, m, now, cl, w)
	case g.state == completingRebalance && same, // its answer was lost
		g.state == stable && same && m.id != g.leader: // a follower that rejoined for nothing
		m.client = cl
		c.alive(g, m, now)
		c.answerJoin(g, m, w, false)
	case g.state == completingRebalance, g.state == stable:
		c.rejoin(g, m, now, cl, w)
	default:
		c.refuseJoin(w, req.MemberID, kerr.UnknownMemberID.Code)
	}
}

// find looks a member up by id and, for a static one, checks that the id is
// still the newest of its instance.
func (g *group) find(id string, instance *string) (*member, int16) {
	if instance != nil {
		m := g.byInstance(*instance)
		if m == nil {
			return nil, kerr.UnknownMemberID.Code
		}
		if m.id != id {
			return nil, kerr.FencedInstanceID.Code
		}
		return m, 0
	}
	if m := g.member(id); m != nil {
		return m, 0
	}
	return nil, kerr.UnknownMemberID.Code
}

// update takes over what the member says of itself in a join.
func (m *member) update(cl Client, req *kmsg.JoinGroupRequest) {
	m.client = cl
	m.protocols = req.Protocols
	m.session = time.Duration(req.SessionTimeoutMillis) * time.Millisecond
	m.rebalance = time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond
	if req.Version < 1 || m.rebalance <= 0 {
		m.rebalance = m.session // version 0 has no field for it
	}
}

func (c *core) addMember(g *group, now time.Time, cl Client, w *waitingJoin, id string) {
	m := &member{id: id, instance: w.req.InstanceID, join: w, joining: true}
	m.update(cl, w.req)
	m.deadline = now.Add(c.cfg.NewMemberJoinWithin)
	if len(g.members) == 0 {
		g.protocolType = w.req.ProtocolType
	}
	g.add(m)
	if g.initial != nil {
		g.initial.joined = true
	}
	c.wake(g, m.deadline)
	c.rebalance(g, now)
}

// rejoin makes a known member wait for the next generation.
func (c *core) rejoin(g *group, m *member, now time.Time, cl Client, w *waitingJoin) {
	m.update(cl, w.req)
	if m.join != nil { // the client asked again; its first request is void
		c.refuseJoin(m.join, m.id, kerr.RebalanceInProgress.Code)
	}
	m.join = w
	c.rebalance(g, now)
}

// replaceStatic puts a restarted static member in the place of its former self.
// A stable group whose protocol would stay goes on without a rebalance.
func (c *core) replaceStatic(g *group, m *member, now time.Time, cl Client, w *waitingJoin, id string) {
	oldID, oldLeader := m.id, g.leader
	if m.join != nil {
		c.refuseJoin(m.join, oldID, kerr.FencedInstanceID.Code)
		m.join = nil
	}
	if m.sync != nil {
		c.refuseSync(m.sync, kerr.FencedInstanceID.Code)
		m.sync = nil
	}
	if g.leader == oldID {
		g.leader = id
	}
	m.id = id
	m.update(cl, w.req)
	c.alive(g, m, now)
	if g.state != stable || g.choose() != g.protocol {
		m.join = w
		c.rebalance(g, now)
		return
	}
	generation := g.generation
	c.write(g, now, []kv{groupRecord(g, now, g.assignments())}, func(now time.Time, code int16) {
		if code != 0 || c.dropped {
			c.refuseJoin(w, id, orCode(code, kerr.NotCoordinator.Code))
			return
		}
		if g.state != stable || g.generation != generation || m.id != id {
			c.refuseJoin(w, id, kerr.RebalanceInProgress.Code)
			return
		}
		c.answerReplaced(g, m, w, oldLeader)
	})
}

// answerReplaced lets a restarted static member in without a rebalance. Its
// next SyncGroup gets the assignment it had. A leader of an old version must
// not be told that it leads, or it would assign.
func (c *core) answerReplaced(g *group, m *member, w *waitingJoin, oldLeader string) {
	if w.req.Version >= skipAssignmentVersion {
		c.answerJoin(g, m, w, m.id == g.leader)
		return
	}
	r := c.joinResponse(g, m, w.req)
	r.LeaderID, r.Members = oldLeader, nil
	c.answer(w.reply, r)
}

func orCode(code, other int16) int16 {
	if code != 0 {
		return code
	}
	return other
}

func (c *core) joinResponse(g *group, m *member, req *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
	r := req.ResponseKind().(*kmsg.JoinGroupResponse)
	protocol, protocolType := g.protocol, g.protocolType
	r.Generation, r.Protocol, r.ProtocolType = g.generation, &protocol, &protocolType
	r.LeaderID, r.MemberID = g.leader, m.id
	return r
}

// answerJoin tells a member of the generation; the leader learns of all.
func (c *core) answerJoin(g *group, m *member, w *waitingJoin, skip bool) {
	r := c.joinResponse(g, m, w.req)
	r.SkipAssignment = skip
	if m.id == g.leader {
		for _, o := range g.members {
			r.Members = append(r.Members, kmsg.JoinGroupResponseMember{MemberID: o.id, InstanceID: o.instance,
				ProtocolMetadata: notNil(o.metadata(g.protocol))})
		}
	}
	c.answer(w.reply, r)
}
