// Command harness runs a cluster of real broker processes through faults while
// clients work, and counts what no log may do, by the names Jepsen gave them.
//
//	nemesis ── kill -9, SIGSTOP, cut routes, disks full, slow, failing, rotting ──┐
//	producers ──▸ broker 1 … n (a network namespace each) ──▸ pollers, group members
//	store (a namespace of its own)                                  └──▸ ledger ──▸ anomalies, report
//
// A disk that fails gives I/O errors to every read and write, by a loop device
// that ends before them; a disk that rots has bits of sealed segments flipped
// under the running broker, which then finds all of them and makes the segments
// anew from other replicas or the bucket.
//
// Each broker, the object store and the clients stand in network namespaces
// that the harness made and joined by a bridge in the clients' one: nothing
// reaches the machine's own network. Each broker's data directory is a file
// system of its own, so that it can be full alone. That needs root.
//
// The ledger holds one key per offset that any client ever saw, from an ack or
// from a poll, and compares as it goes; at the end the log is read from its
// start by a new client and compared with all of it, and the topic's table with
// the log. The schedule of faults comes from a seed; real processes and real
// clocks do not, so a run is repeated in kind and not to the event.
package main
