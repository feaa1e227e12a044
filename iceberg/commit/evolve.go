package commit

import (
	"context"

	ice "github.com/apache/iceberg-go"
	icetable "github.com/apache/iceberg-go/table"

	"tidewater/iceberg/schema"
)

// evolve brings the table's schema up to values of type value (nil is mode
// key_value) by a commit of its own. A conflict is left to the next round.
func (t *table) evolve(ctx context.Context, value *schema.Type) error {
	current := t.meta.CurrentSchema()
	want, changed, err := evolved(current, t.meta.LastColumnID(), value)
	if err != nil {
		return t.stopped(err.Error())
	}
	if !changed {
		return nil
	}
	for _, s := range t.meta.Schemas() {
		want.ID = max(want.ID, s.ID+1)
	}
	requirements := append(t.requirements(), icetable.AssertLastAssignedFieldID(t.meta.LastColumnID()))
	err = t.send(ctx, requirements, []icetable.Update{icetable.NewAddSchemaUpdate(want), icetable.NewSetCurrentSchemaUpdate(-1)})
	if err != nil && undecided(err) {
		if errLoad := t.load(ctx); errLoad != nil {
			return errLoad
		}
		if _, changed, _ = evolved(t.meta.CurrentSchema(), t.meta.LastColumnID(), value); !changed {
			return nil
		}
	}
	return err
}

func evolved(current *ice.Schema, lastColumnID int, value *schema.Type) (*ice.Schema, bool, error) {
	if value == nil {
		value = &schema.Type{Kind: schema.Struct, Fields: []schema.Field{{Name: schema.ColumnValue, Type: &schema.Type{Kind: schema.Binary}}}}
	}
	return schema.Evolve(current, lastColumnID, value)
}
