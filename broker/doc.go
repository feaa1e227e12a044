// Package broker puts a broker together: it opens every package below, wires
// them by hand in one place, runs their loops and closes them in reverse order.
//
// Where data crosses packages, the receiver declares a small interface and the
// adapter stands here: kafka.Partitions and group.Log over the partitions of
// this node, archive.Source and translate's source over broker/partition,
// partition.Remote over tiering/remote.
//
// Loops (each a goroutine of the one errgroup that Open starts and Close waits
// for; a loop that fails stops the broker):
//
//	controller   opens, configures and removes partitions as the view changes
//	segments     writes committed batches to segments, retention
//	groups       the group coordinator's timers
//	archive      uploads sealed segments; retention in the bucket
//	tail         one tail object a second, metadata, the cut, the root's re-read
//	tables       one per table topic: translate and commit
//	follow       a read replica's poll of the source's metadata
//
// What survives a crash is in the packages below; this one keeps nothing but
// the data directory's layout:
//
//	lock, disk-uuid   one process, one disk
//	journal/          entries of all partitions (broker/journal)
//	partitions/       segments, a folder per partition (broker/partition)
//	controller/       the controller's state (broker/cluster)
//	cache/            chunks of bucket objects; may be deleted at any time
//	restore/          what a restore found, until each partition has begun
package broker
