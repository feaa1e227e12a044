//go:build tidewater_before

package cluster

// The newest that the build before this one reads, for tests of an upgrade from
// it (broker/upgrade_test.go): all else is as in this one.
const (
	featureLevelMax = 1
	commandVersion  = 2
	entityVersion   = 2
)
