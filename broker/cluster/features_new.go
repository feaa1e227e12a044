//go:build !tidewater_before

package cluster

// The newest that this build reads: feature level, commands, stored values.
const (
	featureLevelMax = 2
	commandVersion  = 3
	entityVersion   = 3
)
