package flights

import (
	"encoding/json"
	"testing"
)

// TestSample shows that the embedded month is whole and that each flight is
// JSON with the fields its schema requires.
func TestSample(t *testing.T) {
	all, err := Sample()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 27004 {
		t.Fatalf("%d flights, want 27004", len(all))
	}
	var schema struct{ Required []string }
	if err := json.Unmarshal([]byte(Schema), &schema); err != nil {
		t.Fatal(err)
	}
	for i, f := range all {
		var v map[string]any
		if err := json.Unmarshal(f.Value, &v); err != nil {
			t.Fatalf("flight %d: %v: %s", i, err, f.Value)
		}
		for _, name := range schema.Required {
			if v[name] == nil {
				t.Fatalf("flight %d: no %s: %s", i, name, f.Value)
			}
		}
	}
}
