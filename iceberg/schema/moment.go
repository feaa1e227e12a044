package schema

import "time"

const microsPerDay = 24 * 60 * 60 * 1_000_000

// two reads two digits.
func two(b []byte) int {
	if b[0]-'0' > 9 || b[1]-'0' > 9 {
		return -1
	}
	return int(b[0]-'0')*10 + int(b[1]-'0')
}

// parseDate reads YYYY-MM-DD as days since the Unix epoch.
func parseDate(b []byte) (int32, bool) {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' {
		return 0, false
	}
	century, year, month, day := two(b), two(b[2:]), two(b[5:]), two(b[8:])
	if century < 0 || year < 0 || month < 1 || month > 12 || day < 1 || day > 31 {
		return 0, false
	}
	year += century * 100
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if t.Day() != day {
		return 0, false
	}
	return int32(t.Unix() / 86400), t.Unix()%86400 == 0
}

// parseTime reads hh:mm:ss[.fraction] with Z, an offset or nothing (then UTC)
// as microseconds of the day in UTC. Digits beyond microseconds are cut off;
// second 60 does not fit.
func parseTime(b []byte) (int64, bool) {
	micros, rest, ok := clock(b)
	if !ok {
		return 0, false
	}
	if len(rest) > 0 {
		offset, ok := zone(rest)
		if !ok {
			return 0, false
		}
		micros = ((micros-offset)%microsPerDay + microsPerDay) % microsPerDay
	}
	return micros, true
}

// parseDateTime reads an RFC 3339 date-time as microseconds since the Unix
// epoch. The offset is required.
func parseDateTime(b []byte) (int64, bool) {
	if len(b) < 20 || b[10] != 'T' && b[10] != 't' && b[10] != ' ' {
		return 0, false
	}
	days, ok := parseDate(b[:10])
	if !ok {
		return 0, false
	}
	micros, rest, ok := clock(b[11:])
	if !ok {
		return 0, false
	}
	offset, ok := zone(rest)
	return int64(days)*microsPerDay + micros - offset, ok
}

// clock reads hh:mm:ss[.fraction].
func clock(b []byte) (micros int64, rest []byte, ok bool) {
	if len(b) < 8 || b[2] != ':' || b[5] != ':' {
		return 0, nil, false
	}
	h, m, s := two(b), two(b[3:]), two(b[6:])
	if h < 0 || h > 23 || m < 0 || m > 59 || s < 0 || s > 59 {
		return 0, nil, false
	}
	micros = int64(h*3600+m*60+s) * 1_000_000
	b = b[8:]
	if len(b) == 0 || b[0] != '.' {
		return micros, b, true
	}
	unit, n := int64(100_000), 1
	for ; n < len(b) && b[n]-'0' <= 9; n++ {
		micros += int64(b[n]-'0') * unit
		unit /= 10
	}
	return micros, b[n:], n > 1
}

// zone reads Z or ±hh:mm as microseconds east of UTC.
func zone(b []byte) (int64, bool) {
	if len(b) == 1 {
		return 0, b[0] == 'Z' || b[0] == 'z'
	}
	if len(b) != 6 || b[3] != ':' || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	h, m := two(b[1:]), two(b[4:])
	if h < 0 || h > 23 || m < 0 || m > 59 {
		return 0, false
	}
	offset := int64(h*60+m) * 60 * 1_000_000
	if b[0] == '-' {
		offset = -offset
	}
	return offset, true
}
