package broker

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// A restore that was cut off before it wrote the identity left its plan. A
// broker that is then started on the directory begins a cluster of its own: it
// does not take the plan for its own past, whose records it would not find.
func TestPlanOfACutOffRestoreIsNoPast(t *testing.T) {
	t.Parallel()
	source := openNode(t, testConfig(t.TempDir()))
	source.topic("past", 1, nil)
	cfg := testConfig(t.TempDir())
	plan := restorePlan{Version: restoreVersion, Metadata: source.controller.View().Export(), NextProducerID: 5000}
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(cfg.DataDir, restoreFile), text); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, cfg)
	if topic := n.controller.View().TopicByName("past"); topic != nil || n.restored != nil {
		t.Fatalf("a new cluster has topic %+v of a restore that did not happen", topic)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, restoreFile)); !os.IsNotExist(err) {
		t.Errorf("the plan is still there: %v", err)
	}
	n.topic("t", 1, nil)
	n.fill("t", 0, 0, 1)
}
