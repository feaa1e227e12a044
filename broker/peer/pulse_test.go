package peer

import "testing"

// A peer is up while both ways work, by the table of what was heard when.
func TestPulse(t *testing.T) {
	fresh := func() *pulse {
		p := newPulse(100)
		p.connect(7)
		p.echo(1000)
		p.say(7, 1, true, 1010)
		return &p
	}
	for _, c := range []struct {
		name string
		do   func(p *pulse)
		at   int64
		up   bool
	}{
		{"both ways", func(*pulse) {}, 1050, true},
		{"our pings do not come back", func(p *pulse) { p.say(7, 2, true, 1190) }, 1200, false},
		{"an old ping comes back late", func(p *pulse) { p.say(7, 2, true, 1190); p.echo(1001) }, 1200, false},
		{"nothing was said for long", func(p *pulse) { p.echo(1190) }, 1200, false},
		{"its pings do not come back", func(p *pulse) { p.say(7, 2, false, 1040) }, 1050, false},
		{"an older word comes later", func(p *pulse) { p.say(7, 9, true, 1030); p.say(7, 8, false, 1040) }, 1050, true},
		{"the word of another process", func(p *pulse) { p.say(8, 9, false, 1040) }, 1050, true},
		{"another process", func(p *pulse) { p.connect(8) }, 1050, false},
		{"the same process again", func(p *pulse) { p.fail(); p.connect(7) }, 1050, true},
		{"no connection to be had", func(p *pulse) { p.fail() }, 1050, false},
	} {
		p := fresh()
		if c.do(p); p.up(c.at) != c.up {
			t.Errorf("%s: up is %v", c.name, !c.up)
		}
	}
}
