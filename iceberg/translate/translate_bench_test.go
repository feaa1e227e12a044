package translate

import (
	"context"
	"fmt"
	"testing"
	"time"

	ice "github.com/apache/iceberg-go"

	"tidewater/iceberg/icebergtest"
	"tidewater/iceberg/schema"
	"tidewater/iceberg/tablefs"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
)

const flightSchema = `{"type": "object", "properties": {
	"year": {"type": "integer"}, "month": {"type": "integer"}, "day": {"type": "integer"},
	"dep_time": {"type": ["integer", "null"]}, "sched_dep_time": {"type": "integer"}, "dep_delay": {"type": ["number", "null"]},
	"arr_time": {"type": ["integer", "null"]}, "sched_arr_time": {"type": "integer"}, "arr_delay": {"type": ["number", "null"]},
	"carrier": {"type": "string"}, "flight": {"type": "integer"}, "tailnum": {"type": ["string", "null"]},
	"origin": {"type": "string"}, "dest": {"type": "string"}, "air_time": {"type": ["number", "null"]}, "distance": {"type": "number"},
	"hour": {"type": "integer"}, "minute": {"type": "integer"}, "time_hour": {"type": "string", "format": "date-time"}}}`

func flight(i int) []byte {
	carriers := []string{"UA", "AA", "B6", "DL", "EV", "MQ"}
	return fmt.Appendf(nil, `{"year":2013,"month":%d,"day":%d,"dep_time":%d,"sched_dep_time":%d,"dep_delay":%d.0,"arr_time":%d,"sched_arr_time":%d,"arr_delay":%d.0,`+
		`"carrier":"%s","flight":%d,"tailnum":"N%05d","origin":"EWR","dest":"IAH","air_time":%d.0,"distance":%d.0,"hour":%d,"minute":%d,"time_hour":"2013-%02d-%02dT%02d:00:00Z"}`,
		i%12+1, i%28+1, i*7%2400, i*11%2400, i%60-10, i*13%2400, i*17%2400, i%90-30,
		carriers[i%6], i%7000, i*31%5000, i%400+20, i%2500+90, i%24, i%60, i%12+1, i%28+1, i%24)
}

func flights(n int) (*icebergtest.Partition, int64) {
	p := icebergtest.NewPartition(record.TopicID{1}, 0)
	p.Codec = record.Zstd
	var bytes int64
	const batch = 500
	for i := 0; i < n; i += batch {
		recs := make([]icebergtest.Rec, batch)
		for j := range recs {
			recs[j] = icebergtest.Rec{Time: int64(1_600_000_000_000 + i + j), Key: fmt.Appendf(nil, "key-%d", (i+j)%1000), Value: flight(i + j)}
			bytes += int64(len(recs[j].Key) + len(recs[j].Value))
		}
		p.Append(recs...)
	}
	return p, bytes
}

// How fast are batches (zstd from the producer, 500 records of a flight as JSON
// each) turned into a Parquet file? Run: go test -run X -bench Translate -cpu 1.
func BenchmarkTranslate(b *testing.B) {
	const n = 200_000
	p, bytes := flights(n)
	value, err := schema.Compile(flightSchema)
	if err != nil {
		b.Fatal(err)
	}
	for _, mode := range []string{"key_value", "json"} {
		b.Run(mode, func(b *testing.B) {
			target := Target{Schema: schema.KeyValueSchema(), Spec: *ice.UnpartitionedSpec, Location: "s3://lake/t"}
			request := Request{Table: target, Ranges: []Range{{Source: p, To: n}}}
			if mode == "json" {
				request.Value, request.Table.Schema = value, schema.JSONSchema(value)
			}
			names := 0
			store := objstore.NewMem(time.Now)
			tr := New(Config{FS: tablefs.FS{Store: store, Root: "s3://lake"}, Name: func() string { names++; return fmt.Sprint(names) }})
			b.SetBytes(bytes)
			b.ReportAllocs()
			var size int64
			for b.Loop() {
				got, err := tr.Translate(context.Background(), request)
				if err != nil || got.Rows() != n {
					b.Fatal(err, got.Rows())
				}
				size = 0
				for _, f := range got.Files {
					size += f.FileSizeBytes()
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1000, "krows/s")
			b.ReportMetric(float64(size)/n, "filebytes/row")
		})
	}
}

// BenchmarkDecode is the JSON plan alone: values to columns, no Parquet.
func BenchmarkDecode(b *testing.B) {
	value, err := schema.Compile(flightSchema)
	if err != nil {
		b.Fatal(err)
	}
	rows, err := schema.NewBuilder(schema.JSONSchema(value), value)
	if err != nil {
		b.Fatal(err)
	}
	const n = 1000
	recs := make([]record.Record, n)
	var bytes int64
	for i := range recs {
		recs[i] = record.Record{Offset: record.Offset(i), Value: flight(i)}
		bytes += int64(len(recs[i].Value))
	}
	b.SetBytes(bytes)
	for b.Loop() {
		rows.Reset()
		for i := range recs {
			if reason, ok := rows.AppendJSON(0, &recs[i]); !ok {
				b.Fatal(reason)
			}
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1000, "krows/s")
}
