package broker

import (
	"context"

	"tidewater/broker/kafka"
	"tidewater/broker/partition"
	"tidewater/internal/record"
)

type replica struct{}

func (*replica) partition(record.PartitionID) (kafka.Partition, bool) { return nil, false }
func (b *Broker) openReplica(context.Context) error                   { return nil }

type restorePlan struct{}

func (*restorePlan) partition(record.PartitionID) *partition.Restored { return nil }
func (b *Broker) restorePlan() *restorePlan                           { return nil }
func (b *Broker) finishRestore(context.Context) error                 { return nil }
