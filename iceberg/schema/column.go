package schema

// Column is one leaf of a table's schema, filled row by row: compact values
// (nulls are levels only) and Parquet's levels.
type Column struct {
	FieldID int
	Kind    Kind
	// Path is the Parquet path below the root.
	Path           []string
	MaxDef, MaxRep int16

	Bools   []bool
	Ints    []int32 // Int, Date
	Longs   []int64 // Long, Time, Timestamp
	Doubles []float64
	// Data holds the bytes of String and Binary values one after the other;
	// value i ends at Ends[i].
	Data []byte
	Ends []int

	// Def is empty when MaxDef is 0, Rep when MaxRep is 0.
	Def, Rep []int16

	mark mark
}

// mark is where a row began, to take it back.
type mark struct{ values, data, def, rep int }

// Values is the number of values that are not null.
func (c *Column) Values() int {
	switch c.Kind {
	case Bool:
		return len(c.Bools)
	case Int, Date:
		return len(c.Ints)
	case Long, Time, Timestamp:
		return len(c.Longs)
	case Double:
		return len(c.Doubles)
	}
	return len(c.Ends)
}

// Value is the bytes of String or Binary value i; it is valid until Reset.
func (c *Column) Value(i int) []byte {
	start := 0
	if i > 0 {
		start = c.Ends[i-1]
	}
	return c.Data[start:c.Ends[i]:c.Ends[i]]
}

// bytes is the memory the column's content takes, about what Parquet's plain
// encoding does.
func (c *Column) bytes() int {
	return len(c.Bools) + 4*len(c.Ints) + 8*len(c.Longs) + 8*len(c.Doubles) + len(c.Data) + 4*len(c.Ends) + len(c.Def)/4 + len(c.Rep)/4
}

func (c *Column) begin() {
	c.mark = mark{values: c.Values(), data: len(c.Data), def: len(c.Def), rep: len(c.Rep)}
}

func (c *Column) rollback() { c.truncate(c.mark) }

func (c *Column) reset() { c.truncate(mark{}) }

func (c *Column) truncate(m mark) {
	switch c.Kind {
	case Bool:
		c.Bools = c.Bools[:m.values]
	case Int, Date:
		c.Ints = c.Ints[:m.values]
	case Long, Time, Timestamp:
		c.Longs = c.Longs[:m.values]
	case Double:
		c.Doubles = c.Doubles[:m.values]
	default:
		c.Ends = c.Ends[:m.values]
	}
	c.Data, c.Def, c.Rep = c.Data[:m.data], c.Def[:m.def], c.Rep[:m.rep]
}

func (c *Column) level(rep, def int16) {
	if c.MaxDef > 0 {
		c.Def = append(c.Def, def)
	}
	if c.MaxRep > 0 {
		c.Rep = append(c.Rep, rep)
	}
}

func (c *Column) addInt(rep int16, v int32) { c.Ints = append(c.Ints, v); c.level(rep, c.MaxDef) }
func (c *Column) addLong(rep int16, v int64) {
	c.Longs = append(c.Longs, v)
	c.level(rep, c.MaxDef)
}
func (c *Column) addDouble(rep int16, v float64) {
	c.Doubles = append(c.Doubles, v)
	c.level(rep, c.MaxDef)
}
func (c *Column) addBool(rep int16, v bool) { c.Bools = append(c.Bools, v); c.level(rep, c.MaxDef) }

func (c *Column) addBytes(rep int16, v []byte) {
	c.Data = append(c.Data, v...)
	c.Ends = append(c.Ends, len(c.Data))
	c.level(rep, c.MaxDef)
}

// endBytes closes a value whose bytes were appended to Data by the caller.
func (c *Column) endBytes(rep int16) {
	c.Ends = append(c.Ends, len(c.Data))
	c.level(rep, c.MaxDef)
}

// appendFrom copies entry e, whose value (if it has one) is value v, from src,
// a column of the same leaf. It reports whether there was a value.
func (c *Column) appendFrom(src *Column, e, v int) bool {
	if src.MaxDef > 0 {
		c.Def = append(c.Def, src.Def[e])
	}
	if src.MaxRep > 0 {
		c.Rep = append(c.Rep, src.Rep[e])
	}
	if src.MaxDef > 0 && src.Def[e] < src.MaxDef {
		return false
	}
	switch c.Kind {
	case Bool:
		c.Bools = append(c.Bools, src.Bools[v])
	case Int, Date:
		c.Ints = append(c.Ints, src.Ints[v])
	case Long, Time, Timestamp:
		c.Longs = append(c.Longs, src.Longs[v])
	case Double:
		c.Doubles = append(c.Doubles, src.Doubles[v])
	default:
		c.Data = append(c.Data, src.Value(v)...)
		c.Ends = append(c.Ends, len(c.Data))
	}
	return true
}

// entries is the number of level entries: one per row, or more when repeated.
func (c *Column) entries() int {
	if c.MaxDef > 0 {
		return len(c.Def)
	}
	return c.Values()
}
