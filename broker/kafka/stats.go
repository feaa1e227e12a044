package kafka

import (
	"sync/atomic"

	"tidewater/internal/logio"
)

// apiKeysMax bounds the per-key counters; no key that is served is higher.
const apiKeysMax = 128

// counters are what the server counts as it runs; Stats is a copy of them.
type counters struct {
	requests [apiKeysMax]atomic.Int64
	errors   [apiKeysMax]atomic.Int64

	bytesIn, bytesOut              atomic.Int64
	produceBytes, fetchBytes       atomic.Int64
	fetchSources                   [logio.SourceCount]atomic.Int64
	connections, accepted          atomic.Int64
	refused, malformed, idleClosed atomic.Int64
	memoryWaits                    atomic.Int64
}

// Stats is what a server has done since Open. Counts only grow, except those
// that say "now".
type Stats struct {
	// Requests and Errors by API key; a request counts once as an error if any
	// part of its answer has an error code.
	Requests, Errors map[int16]int64
	// BytesIn and BytesOut are frames with their length fields.
	BytesIn, BytesOut int64
	// ProduceBytes are record bytes handed to the logs, FetchBytes record bytes
	// written to clients; FetchSources splits the latter by where they came from.
	ProduceBytes, FetchBytes int64
	FetchSources             [logio.SourceCount]int64
	Connections              int64 // now
	Accepted                 int64
	Refused                  int64 // over a connection limit
	Malformed                int64 // closed because of bytes that are no request
	IdleClosed               int64
	RequestBytes             int64 // now: request bytes held in memory
	MemoryWaits              int64 // reads that waited for request memory
	FetchSessions            int64 // now
	FetchSessionPartitions   int64 // now
	FetchSessionEvictions    int64
}

// Stats gives the counters for metrics.
func (s *Server) Stats() Stats {
	c := &s.counters
	out := Stats{
		Requests: map[int16]int64{}, Errors: map[int16]int64{},
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		ProduceBytes: c.produceBytes.Load(), FetchBytes: c.fetchBytes.Load(),
		Connections: c.connections.Load(), Accepted: c.accepted.Load(), Refused: c.refused.Load(),
		Malformed: c.malformed.Load(), IdleClosed: c.idleClosed.Load(),
		RequestBytes: s.memory.held(), MemoryWaits: c.memoryWaits.Load(),
	}
	for i := range c.fetchSources {
		out.FetchSources[i] = c.fetchSources[i].Load()
	}
	for key := range s.apis {
		out.Requests[key] = c.requests[key].Load()
		out.Errors[key] = c.errors[key].Load()
	}
	out.FetchSessions, out.FetchSessionPartitions, out.FetchSessionEvictions = s.sessions.stats()
	return out
}
