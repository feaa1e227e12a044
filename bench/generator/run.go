package generator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// Run does the work of spec. A fault that the load found in the broker is in the
// result; an error means that the run could not be made.
func Run(ctx context.Context, s Spec) (Result, error) {
	if err := s.validate(); err != nil {
		return Result{}, fmt.Errorf("read the specification of a load: %w", err)
	}
	switch s.Kind {
	case Produce:
		return s.produce(ctx)
	case Latency:
		return s.latency(ctx)
	default:
		return s.fetch(ctx)
	}
}

// Main is a generator process: a Spec from in, a Result to out.
func Main(ctx context.Context, in io.Reader, out io.Writer) error {
	var s Spec
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read the specification of a load: %w", err)
	}
	r, err := Run(ctx, s)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}
