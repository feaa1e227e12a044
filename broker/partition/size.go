package partition

// LocalBytes is what the partition takes on this disk and in memory for it: its
// segment files, and what is in none yet.
func (p *Partition) LocalBytes() int64 {
	n, _ := p.Pending()
	for _, in := range p.segments.Segments() {
		n += in.Bytes
	}
	return n
}
