package schema

import (
	"errors"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// text appends the string at the cursor, unescaped, to dst. Bytes that are not
// UTF-8 and halves of a surrogate pair do not fit a string column.
func (p *parser) text(dst []byte) ([]byte, bool) {
	p.i++
	for {
		n := plainLen(p.b[p.i:])
		dst = append(dst, p.b[p.i:p.i+n]...)
		p.i += n
		if p.i >= len(p.b) {
			return dst, p.notJSON()
		}
		switch c := p.b[p.i]; {
		case c == '"':
			p.i++
			return dst, true
		case c == '\\':
			var ok bool
			if dst, ok = p.escape(dst); !ok {
				return dst, false
			}
		case c < 0x20:
			return dst, p.notJSON()
		default:
			r, size := utf8.DecodeRune(p.b[p.i:])
			if r == utf8.RuneError && size == 1 {
				return dst, p.fail("text is not UTF-8 at byte %d", p.i)
			}
			dst = append(dst, p.b[p.i:p.i+size]...)
			p.i += size
		}
	}
}

func (p *parser) escape(dst []byte) ([]byte, bool) {
	if p.i+1 >= len(p.b) {
		return dst, p.notJSON()
	}
	c := p.b[p.i+1]
	p.i += 2
	switch c {
	case '"', '\\', '/':
		return append(dst, c), true
	case 'b':
		return append(dst, '\b'), true
	case 'f':
		return append(dst, '\f'), true
	case 'n':
		return append(dst, '\n'), true
	case 'r':
		return append(dst, '\r'), true
	case 't':
		return append(dst, '\t'), true
	case 'u':
		r, ok := p.hex()
		if !ok {
			return dst, p.notJSON()
		}
		if utf16.IsSurrogate(r) {
			if len(p.b)-p.i < 6 || p.b[p.i] != '\\' || p.b[p.i+1] != 'u' {
				return dst, p.fail("text has half a surrogate pair at byte %d", p.i)
			}
			p.i += 2
			low, ok := p.hex()
			if !ok {
				return dst, p.notJSON()
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return dst, p.fail("text has half a surrogate pair at byte %d", p.i)
			}
		}
		return utf8.AppendRune(dst, r), true
	}
	return dst, p.notJSON()
}

func (p *parser) hex() (rune, bool) {
	if len(p.b)-p.i < 4 {
		return 0, false
	}
	var r rune
	for _, c := range p.b[p.i : p.i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	p.i += 4
	return r, true
}

// decimal is a JSON number as written.
type decimal struct {
	negative bool
	// mantissa is the number without point and exponent, when exact.
	mantissa uint64
	exact    bool // the mantissa has at most 19 digits
	scale    int  // digits after the point
	exponent int  // clamped to exponentMax
	text     []byte
}

const exponentMax = 100_000

func (p *parser) digits() (decimal, bool) {
	d := decimal{exact: true}
	start := p.i
	if p.i < len(p.b) && p.b[p.i] == '-' {
		d.negative = true
		p.i++
	}
	whole := p.run(&d)
	if whole == 0 || whole > 1 && p.b[p.i-whole] == '0' {
		return d, p.notJSON()
	}
	if p.i < len(p.b) && p.b[p.i] == '.' {
		p.i++
		if d.scale = p.run(&d); d.scale == 0 {
			return d, p.notJSON()
		}
	}
	if p.i < len(p.b) && (p.b[p.i] == 'e' || p.b[p.i] == 'E') {
		if !p.exponent(&d) {
			return d, p.notJSON()
		}
	}
	d.text = p.b[start:p.i]
	return d, true
}

// run reads digits into the mantissa and gives their number.
func (p *parser) run(d *decimal) int {
	start := p.i
	for p.i < len(p.b) && p.b[p.i]-'0' <= 9 {
		c := uint64(p.b[p.i] - '0')
		if d.mantissa > (math.MaxUint64-c)/10 {
			d.exact = false
		}
		d.mantissa = d.mantissa*10 + c
		p.i++
	}
	return p.i - start
}

func (p *parser) exponent(d *decimal) bool {
	p.i++
	sign := 1
	if p.i < len(p.b) && (p.b[p.i] == '+' || p.b[p.i] == '-') {
		if p.b[p.i] == '-' {
			sign = -1
		}
		p.i++
	}
	start := p.i
	for p.i < len(p.b) && p.b[p.i]-'0' <= 9 {
		d.exponent = min(d.exponent*10+int(p.b[p.i]-'0'), exponentMax)
		p.i++
	}
	d.exponent *= sign
	return p.i > start
}

func (p *parser) number(n *node, rep int16) bool {
	at := p.i
	d, ok := p.digits()
	if !ok {
		return false
	}
	if n.kind == Double {
		v, err := d.float()
		if err != nil {
			p.i = at
			return p.fail("%s is outside double", p.found())
		}
		n.leaf.addDouble(rep, v)
		return true
	}
	v, problem := d.integer()
	if problem != "" {
		p.i = at
		return p.fail("%s %s", p.found(), problem)
	}
	n.leaf.addLong(rep, v)
	return true
}

// powers of ten that a double holds exactly.
var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

func (d *decimal) float() (float64, error) {
	// Both factors are exact, so that the one rounding is the right one.
	if e := d.exponent - d.scale; d.exact && d.mantissa < 1<<53 && e >= -22 && e <= 22 {
		v := float64(d.mantissa)
		if e < 0 {
			v /= powers[-e]
		} else {
			v *= powers[e]
		}
		if d.negative {
			v = -v
		}
		return v, nil
	}
	// The text stays in place while ParseFloat looks at it.
	return strconv.ParseFloat(unsafe.String(unsafe.SliceData(d.text), len(d.text)), 64)
}

// integer gives the number when it is one and fits a long; 1.0 and 1e3 are
// integers.
func (d *decimal) integer() (int64, string) {
	const overflow, fraction = "is outside long", "is not an integer"
	m := d.mantissa
	if !d.exact || d.scale != 0 || d.exponent != 0 {
		var problem string
		if m, problem = d.whole(); problem != "" {
			return 0, problem
		}
	}
	switch {
	case d.negative && m <= 1<<63:
		return -int64(m), ""
	case !d.negative && m < 1<<63:
		return int64(m), ""
	}
	return 0, overflow
}

// whole moves the point of the digits as written.
func (d *decimal) whole() (uint64, string) {
	digits := make([]byte, 0, len(d.text))
	for _, c := range d.text {
		if c == 'e' || c == 'E' {
			break
		}
		if c-'0' <= 9 {
			digits = append(digits, c)
		}
	}
	point := len(digits) - d.scale + d.exponent
	for len(digits) > 0 && digits[0] == '0' {
		digits = digits[1:]
		point--
	}
	for len(digits) > 0 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	switch {
	case len(digits) == 0:
		return 0, ""
	case len(digits) > point:
		return 0, "is not an integer"
	case point > 19:
		return 0, "is outside long"
	}
	for len(digits) < point {
		digits = append(digits, '0')
	}
	m, err := strconv.ParseUint(string(digits), 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, "is outside long"
	}
	return m, ""
}
