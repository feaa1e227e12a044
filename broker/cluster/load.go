package cluster

import "maps"

// Load is what a broker carries of the cluster's partitions.
type Load struct {
	Replicas int // what it holds, comes and leaves counted alike
	First    int // those that it is the most preferred leader of
}

// Load gives what a broker carries.
func (v *View) Load(node int32) Load { return v.loads[node] }

// count changes the loads by a topic's partitions, n times: 1 or -1.
func (s *State) count(t *Topic, n int) {
	if s.shared.loads {
		s.v.loads, s.shared.loads = maps.Clone(s.v.loads), false
	}
	s.v.partitions += n * len(t.Partitions)
	for i := range t.Partitions {
		if t.Partitions[i].Move != nil {
			s.v.moves += n
		}
		for _, r := range t.Partitions[i].Replicas {
			l := s.v.loads[r.Node]
			l.Replicas += n
			s.v.loads[r.Node] = l
		}
		if rs := t.Partitions[i].Replicas; len(rs) > 0 {
			l := s.v.loads[rs[0].Node]
			l.First += n
			s.v.loads[rs[0].Node] = l
		}
	}
}
