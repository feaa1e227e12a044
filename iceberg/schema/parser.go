package schema

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// nestingMax bounds how deep a JSON value may nest; deeper ones do not fit.
const nestingMax = 256

// pathBytesMax bounds the path in a reason: names come from the value.
const pathBytesMax = 256

// parser walks one JSON text into the leaves. A walk that fails leaves the
// problem and the path to it behind; the builder takes the row back.
type parser struct {
	leaves   []*Column
	b        []byte
	i        int
	instance uint64
	scratch  []byte

	problem string
	path    []string // innermost first
}

// parse reads the whole of text, an object, as one row of root's fields.
func (p *parser) parse(root *node, text []byte) bool {
	p.b, p.i, p.problem, p.path = text, 0, "", p.path[:0]
	if p.space() != '{' {
		if p.i < len(p.b) && p.skip(0) && p.end() {
			p.i = 0
			p.space()
			return p.fail("expected an object, found %s", p.found())
		}
		return p.notJSON()
	}
	return p.object(root, 0) && p.end()
}

func (p *parser) end() bool {
	if p.space(); p.i < len(p.b) {
		return p.fail("not JSON: %d bytes after the value", len(p.b)-p.i)
	}
	return true
}

// reason says what went wrong in the last parse, with the path of the field.
func (p *parser) reason() string {
	if len(p.path) == 0 {
		return p.problem
	}
	var s strings.Builder
	for i := len(p.path) - 1; i >= 0; i-- {
		if i < len(p.path)-1 && !strings.HasPrefix(p.path[i], "[") {
			s.WriteString(".")
		}
		s.WriteString(p.path[i])
	}
	path := s.String()
	if len(path) > pathBytesMax {
		path = strings.ToValidUTF8(path[:pathBytesMax], "") + "…"
	}
	return "field " + path + ": " + p.problem
}

func (p *parser) fail(format string, args ...any) bool {
	if p.problem == "" {
		p.problem = fmt.Sprintf(format, args...)
	}
	return false
}

func (p *parser) notJSON() bool { return p.fail("not JSON: at byte %d of %d", p.i, len(p.b)) }

func (p *parser) under(name string) bool {
	p.path = append(p.path, name)
	return false
}

// found describes the value at the cursor for a reason.
func (p *parser) found() string {
	const shownMax = 32
	rest := p.b[p.i:]
	if len(rest) > shownMax {
		rest = rest[:shownMax]
		for len(rest) > 0 && !utf8.RuneStart(rest[len(rest)-1]) {
			rest = rest[:len(rest)-1]
		}
	}
	return strings.ToValidUTF8(string(rest), "�")
}

// space skips white space and gives the byte there, 0 at the end.
func (p *parser) space() byte {
	for p.i < len(p.b) {
		switch c := p.b[p.i]; c {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return c
		}
	}
	return 0
}

func (p *parser) literal(word string) bool {
	if len(p.b)-p.i < len(word) || string(p.b[p.i:p.i+len(word)]) != word {
		return p.notJSON()
	}
	p.i += len(word)
	return true
}

// null makes every leaf below n null at definition level def.
func (p *parser) null(n *node, rep, def int16) {
	for _, c := range p.leaves[n.lo:n.hi] {
		c.level(rep, def)
	}
}

// value reads the value at the cursor into n.
func (p *parser) value(n *node, rep int16) bool {
	switch c := p.space(); {
	case c == 'n':
		if !n.nullable {
			return p.literal("null") && p.fail("is null")
		}
		p.null(n, rep, n.def-1)
		return p.literal("null")
	case c == '{' && n.kind == Struct:
		return p.object(n, rep)
	case c == '{' && n.kind == Map:
		return p.mapping(n, rep)
	case c == '[' && n.kind == List:
		return p.array(n, rep)
	case c == '"' && n.kind == String:
		leaf := n.leaf
		var ok bool
		if leaf.Data, ok = p.text(leaf.Data); !ok {
			return false
		}
		leaf.endBytes(rep)
		return true
	case c == '"' && (n.kind == Timestamp || n.kind == Date || n.kind == Time):
		return p.moment(n, rep)
	case (c == 't' || c == 'f') && n.kind == Bool:
		n.leaf.addBool(rep, c == 't')
		if c == 't' {
			return p.literal("true")
		}
		return p.literal("false")
	case (c == '-' || c >= '0' && c <= '9') && (n.kind == Long || n.kind == Double):
		return p.number(n, rep)
	}
	at := p.i
	if !p.skip(0) {
		return false
	}
	p.i = at
	return p.fail("expected %s, found %s", n.kind, p.found())
}

func (p *parser) moment(n *node, rep int16) bool {
	at, ok := p.i, false
	if p.scratch, ok = p.text(p.scratch[:0]); !ok {
		return false
	}
	bad := func(format string) bool {
		p.i = at
		return p.fail("%s is not a %s", p.found(), format)
	}
	switch n.kind {
	case Date:
		days, ok := parseDate(p.scratch)
		if !ok {
			return bad("date (YYYY-MM-DD)")
		}
		n.leaf.addInt(rep, days)
	case Time:
		micros, ok := parseTime(p.scratch)
		if !ok {
			return bad("time (hh:mm:ss, with Z or an offset)")
		}
		n.leaf.addLong(rep, micros)
	default:
		micros, ok := parseDateTime(p.scratch)
		if !ok {
			return bad("date-time (RFC 3339)")
		}
		n.leaf.addLong(rep, micros)
	}
	return true
}

// object reads an object into struct n.
func (p *parser) object(n *node, rep int16) bool {
	p.instance++
	instance, next := p.instance, 0
	p.i++
	for first := true; ; first = false {
		c := p.space()
		if c == '}' && first {
			p.i++
			break
		}
		child, ok := p.member(n, &next)
		if !ok {
			return false
		}
		if child == nil {
			if !p.skip(0) {
				return false
			}
		} else {
			if child.seen == instance {
				return p.fail("is given twice") || p.under(child.name)
			}
			child.seen = instance
			if !p.value(child, rep) {
				return p.under(child.name)
			}
		}
		if c = p.space(); c == '}' {
			p.i++
			break
		}
		if c != ',' {
			return p.notJSON()
		}
		p.i++
	}
	return p.missing(n, rep, instance)
}

// missing makes null the fields of n that its object did not have.
func (p *parser) missing(n *node, rep int16, instance uint64) bool {
	for _, f := range n.fields {
		if f.seen == instance {
			continue
		}
		if f.required {
			return p.fail("is required and missing") || p.under(f.name)
		}
		p.null(f, rep, f.def-1)
	}
	return true
}

// member reads a name and its colon and gives the field of n it means, nil
// when there is none. next is where the field is if names come in order.
func (p *parser) member(n *node, next *int) (child *node, ok bool) {
	if p.space() != '"' {
		return nil, p.notJSON()
	}
	name, ok := p.name()
	if !ok {
		return nil, false
	}
	if *next < len(n.fields) && n.fields[*next].name == string(name) && !n.fields[*next].absent {
		child = n.fields[*next]
		*next++
	} else if child = n.index[string(name)]; child != nil {
		for i, f := range n.fields {
			if f == child {
				*next = i + 1
			}
		}
	} else if n.closed {
		return nil, p.fail("is not in the schema, and additionalProperties is false") || p.under(string(name))
	}
	if p.space() != ':' {
		return nil, p.notJSON()
	}
	p.i++
	return child, true
}

// name reads a string without copying it when it is plain; the result is valid
// until the next call.
func (p *parser) name() ([]byte, bool) {
	start := p.i + 1
	end := start + plainLen(p.b[start:])
	if end < len(p.b) && p.b[end] == '"' {
		p.i = end + 1
		return p.b[start:end], true
	}
	var ok bool
	p.scratch, ok = p.text(p.scratch[:0])
	return p.scratch, ok
}

// mapping reads an object into map n.
func (p *parser) mapping(n *node, rep int16) bool {
	clear(n.keys)
	p.i++
	if p.space() == '}' {
		p.i++
		p.null(n, rep, n.def)
		return true
	}
	key := n.key.leaf
	for {
		if p.space() != '"' {
			return p.notJSON()
		}
		start := len(key.Data)
		var ok bool
		if key.Data, ok = p.text(key.Data); !ok {
			return false
		}
		key.endBytes(rep)
		name := string(key.Data[start:])
		if _, there := n.keys[name]; there {
			return p.fail("is given twice") || p.under("["+name+"]")
		}
		n.keys[name] = struct{}{}
		if p.space() != ':' {
			return p.notJSON()
		}
		p.i++
		if !p.value(n.elem, rep) {
			return p.under("[" + name + "]")
		}
		rep = n.rep
		switch p.space() {
		case '}':
			p.i++
			return true
		case ',':
			p.i++
		default:
			return p.notJSON()
		}
	}
}

// array reads an array into list n.
func (p *parser) array(n *node, rep int16) bool {
	p.i++
	if p.space() == ']' {
		p.i++
		p.null(n, rep, n.def)
		return true
	}
	for i := 0; ; i++ {
		if !p.value(n.elem, rep) {
			return p.under(fmt.Sprintf("[%d]", i))
		}
		rep = n.rep
		switch p.space() {
		case ']':
			p.i++
			return true
		case ',':
			p.i++
		default:
			return p.notJSON()
		}
	}
}

// skip passes over any value, checking that it is JSON.
func (p *parser) skip(depth int) bool {
	if depth > nestingMax {
		return p.fail("nested deeper than %d levels", nestingMax)
	}
	switch c := p.space(); c {
	case '{', '[':
		return p.skipNested(c, depth)
	case '"':
		_, ok := p.name()
		return ok
	case 't':
		return p.literal("true")
	case 'f':
		return p.literal("false")
	case 'n':
		return p.literal("null")
	}
	_, ok := p.digits()
	return ok
}

func (p *parser) skipNested(open byte, depth int) bool {
	p.i++
	if p.space() == open+2 { // '{' and '}', '[' and ']' are two apart
		p.i++
		return true
	}
	for {
		if open == '{' {
			if p.space() != '"' {
				return p.notJSON()
			}
			if _, ok := p.name(); !ok {
				return false
			}
			if p.space() != ':' {
				return p.notJSON()
			}
			p.i++
		}
		if !p.skip(depth + 1) {
			return false
		}
		switch p.space() {
		case open + 2:
			p.i++
			return true
		case ',':
			p.i++
		default:
			return p.notJSON()
		}
	}
}
