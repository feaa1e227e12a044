package broker

import (
	"context"

	"tidewater/broker/cluster"
	"tidewater/broker/kafka"
	"tidewater/broker/partition"
	"tidewater/internal/record"
)

type remotePartition struct{ partition.Remote }

func (t *tier) remote(*cluster.Topic, record.PartitionID) *remotePartition { return nil }

type tables struct{}

func (*tables) dropTable(context.Context, *cluster.Deletion) error { return nil }
func (b *Broker) openTables(context.Context) error                 { return nil }

type replica struct{}

func (*replica) partition(record.PartitionID) (kafka.Partition, bool) { return nil, false }
func (b *Broker) openReplica(context.Context) error                   { return nil }

type restorePlan struct{}

func (*restorePlan) partition(record.PartitionID) *partition.Restored { return nil }
func (b *Broker) restorePlan() *restorePlan                           { return nil }
func (b *Broker) finishRestore(context.Context) error                 { return nil }
