package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *core) refuseSync(w *waitingSync, code int16) {
	r := w.req.ResponseKind().(*kmsg.SyncGroupResponse)
	r.ErrorCode, r.MemberAssignment = code, []byte{}
	c.answer(w.reply, r)
}

func (c *core) answerSync(g *group, m *member, w *waitingSync) {
	r := w.req.ResponseKind().(*kmsg.SyncGroupResponse)
	protocol, protocolType := g.protocol, g.protocolType
	r.Protocol, r.ProtocolType, r.MemberAssignment = &protocol, &protocolType, notNil(m.assignment)
	c.answer(w.reply, r)
}

// sync handles SyncGroup. The leader's brings the assignments, which are
// answered to all once they are committed.
func (c *core) sync(now time.Time, req *kmsg.SyncGroupRequest, reply func(kmsg.Response)) {
	w := &waitingSync{req, reply}
	g, m, code := c.memberOf(req.Group, req.MemberID, req.InstanceID, req.Generation)
	if code == 0 && (req.ProtocolType != nil && *req.ProtocolType != g.protocolType || req.Protocol != nil && *req.Protocol != g.protocol) {
		code = kerr.InconsistentGroupProtocol.Code
	}
	if (code == kerr.UnknownMemberID.Code || code == kerr.IllegalGeneration.Code) && c.lost(req.Group, req.Generation) {
		code = kerr.RebalanceInProgress.Code
	}
	if code != 0 {
		c.refuseSync(w, code)
		return
	}
	switch g.state {
	case preparingRebalance:
		c.refuseSync(w, kerr.RebalanceInProgress.Code)
	case stable:
		c.alive(g, m, now)
		c.answerSync(g, m, w)
	case completingRebalance:
		if m.sync != nil { // the client asked again; its first request is void
			c.refuseSync(m.sync, kerr.RebalanceInProgress.Code)
		}
		m.sync = w
		if m.id == g.leader {
			c.assign(g, now, req.GroupAssignment)
		}
	default:
		c.refuseSync(w, kerr.UnknownMemberID.Code)
	}
}

// lost says that a generation was another coordinator's and not completed
// there: its members are to join again. Those that hear UNKNOWN_MEMBER_ID or
// ILLEGAL_GENERATION instead of that do so too, but some show their users an
// error first.
func (c *core) lost(groupID string, generation int32) bool {
	g := c.groups[groupID]
	return g == nil || generation > g.generation
}

// memberOf finds a group's member and checks its generation; generation -1 is
// not checked by callers that pass the group's own.
func (c *core) memberOf(groupID, memberID string, instance *string, generation int32) (*group, *member, int16) {
	if code := c.blocked(groupID); code != 0 {
		return nil, nil, code
	}
	g := c.groups[groupID]
	if g == nil {
		return nil, nil, kerr.UnknownMemberID.Code
	}
	if g.state == dead {
		return nil, nil, kerr.CoordinatorNotAvailable.Code
	}
	m, code := g.find(memberID, instance)
	if code != 0 {
		return nil, nil, code
	}
	if generation != g.generation {
		return nil, nil, kerr.IllegalGeneration.Code
	}
	return g, m, 0
}

// assign writes the leader's assignments down; members that it left out get
// an empty one.
func (c *core) assign(g *group, now time.Time, given []kmsg.SyncGroupRequestGroupAssignment) {
	assignments := map[string][]byte{}
	for _, a := range given {
		assignments[a.MemberID] = a.MemberAssignment
	}
	generation := g.generation
	c.write(g, now, []kv{groupRecord(g, now, assignments)}, func(now time.Time, code int16) {
		if c.dropped || g.state != completingRebalance || g.generation != generation {
			return // whoever changed it answered the members
		}
		if code != 0 {
			c.failAssign(g, now, code)
			return
		}
		g.enter(stable, now)
		for _, m := range g.members {
			m.assignment = assignments[m.id]
			if w := m.sync; w != nil {
				m.sync = nil
				c.alive(g, m, now)
				c.answerSync(g, m, w)
			}
		}
	})
}

// failAssign tells the members that the assignment is not stored, and has them
// try again.
func (c *core) failAssign(g *group, now time.Time, code int16) {
	for _, m := range g.members {
		if w := m.sync; w != nil {
			m.sync = nil
			c.alive(g, m, now)
			c.refuseSync(w, serverError(code))
		}
	}
	c.prepare(g, now)
}

// serverError hides a code that means nothing to a group's member.
func serverError(code int16) int16 {
	if code == kerr.MessageTooLarge.Code {
		return kerr.UnknownServerError.Code
	}
	return code
}

// assignments are the members' of the current generation.
func (g *group) assignments() map[string][]byte {
	out := make(map[string][]byte, len(g.members))
	for _, m := range g.members {
		out[m.id] = m.assignment
	}
	return out
}

// heartbeat handles Heartbeat.
func (c *core) heartbeat(now time.Time, req *kmsg.HeartbeatRequest, reply func(kmsg.Response)) {
	r := req.ResponseKind().(*kmsg.HeartbeatResponse)
	g, m, code := c.memberOf(req.Group, req.MemberID, req.InstanceID, req.Generation)
	switch {
	case code != 0:
		r.ErrorCode = code
	case g.state == empty:
		r.ErrorCode = kerr.UnknownMemberID.Code
	default:
		c.alive(g, m, now)
		if g.state == preparingRebalance {
			r.ErrorCode = kerr.RebalanceInProgress.Code
		}
	}
	c.answer(reply, r)
}

// leave handles LeaveGroup: one member up to version 2, any number after.
func (c *core) leave(now time.Time, req *kmsg.LeaveGroupRequest, reply func(kmsg.Response)) {
	r := req.ResponseKind().(*kmsg.LeaveGroupResponse)
	leaving := req.Members
	if req.Version < 3 {
		leaving = []kmsg.LeaveGroupRequestMember{{MemberID: req.MemberID}}
	}
	if r.ErrorCode = c.blocked(req.Group); r.ErrorCode == 0 {
		for _, l := range leaving {
			code := c.leaveOne(now, c.groups[req.Group], l)
			if req.Version < 3 {
				r.ErrorCode = code
				break
			}
			r.Members = append(r.Members, kmsg.LeaveGroupResponseMember{MemberID: l.MemberID, InstanceID: l.InstanceID, ErrorCode: code})
		}
	}
	c.answer(reply, r)
}

func (c *core) leaveOne(now time.Time, g *group, l kmsg.LeaveGroupRequestMember) int16 {
	if g == nil {
		return kerr.UnknownMemberID.Code
	}
	if g.state == dead {
		return kerr.CoordinatorNotAvailable.Code
	}
	if _, pending := g.pending[l.MemberID]; pending && l.InstanceID == nil {
		delete(g.pending, l.MemberID)
		c.tryJoin(g, now)
		c.dropUnused(g)
		return 0
	}
	id := l.MemberID
	if l.InstanceID != nil && id == "" { // an administrator removes a static member
		if m := g.byInstance(*l.InstanceID); m != nil {
			id = m.id
		}
	}
	m, code := g.find(id, l.InstanceID)
	if code != 0 {
		return code
	}
	c.drop(g, m, now)
	return 0
}
