// Package broker puts a broker together: it opens every package below, wires
// them by hand in one place, runs their loops and closes them in reverse order.
//
// Where data crosses packages, the receiver declares a small interface and the
// adapter stands here: kafka.Partitions and group.Log over the partitions of
// this node, archive.Source and translate's source over broker/partition,
// partition.Remote over tiering/remote, partition.SegmentSource and
// cluster.Peers over broker/peer.
//
// In a cluster every broker runs the same loops, and each does only what its
// leaderships give it: archive and tails for partitions led here, a table where
// its topic's partition 0 is led, keeper and deletions where the controller is.
// What they need of partitions led elsewhere they ask the leaders for
// (docs/formats/rpc.md); a broker that is down leads nothing and is not asked.
//
// Loops (each a goroutine of the one errgroup that Open starts and Close waits
// for; a loop that fails stops the broker):
//
//	controller   opens, configures and removes partitions as the view changes
//	leaders      tells the controller what this broker leads
//	topics       starts, configures and stops the tables of topics
//	segments     writes committed batches to segments
//	retention    removes what is too old or too much
//	groups       the group coordinator's timers
//	archive      uploads sealed segments; retention in the bucket
//	tail         one tail object a second
//	root         sees whether a newer incarnation owns the bucket
//	keeper       metadata, the cut, dead series, deleted topics
//	scrub        compares the bucket with the manifests
//	cache        reads ahead of cold readers (4), fills the disk cache (1), sweeps
//	tables       per table topic: translate and commit; orphans
//	follow       a read replica's poll of the source's metadata
//
// What survives a crash is in the packages below; this one keeps the data
// directory's layout, its identity and a restore's plan
// (docs/formats/data-directory.md).
package broker
