package cluster

import "fmt"

// A feature level is what all brokers of a cluster may rely on of each other.
// A build works at a range of levels. What a level brings is read by every
// build whose range reaches it, and written only once the cluster has been
// raised to it, which is done by command and never taken back: until then every
// broker can go back to the build before. So of two builds in one cluster the
// older never meets what it cannot read, on the wire or on its disks.
//
// To add something that others must know of: raise featureLevelMax, read it
// here at once, write it from the new level on; and lower it in features_old.go
// by as much, which is the build that tests take for the one before.
const (
	// FeatureLevelMin is the lowest level that this build works at.
	FeatureLevelMin uint32 = 1
	// FeatureLevelMax is the highest, and that of a new cluster.
	FeatureLevelMax uint32 = featureLevelMax

	// levelBuilds: brokers say which build they are.
	levelBuilds uint32 = 2
)

// canWork says whether a build that works at levels from least to most can be
// in a cluster at a level; 0 is not known.
func canWork(level, least, most uint32) error {
	if level == 0 || most == 0 || least <= level && level <= most {
		return nil
	}
	return fmt.Errorf("%w: the cluster works at feature level %d, this build at %d to %d: use a build that can", ErrFenced, level, least, most)
}

// works says whether this build can work at the view's level.
func (v *View) works() error { return canWork(v.featureLevel, FeatureLevelMin, FeatureLevelMax) }

// canRaise says what keeps the cluster from a level: it is never lowered, and
// every broker's build must be able to work at it, also one that is away.
func (v *View) canRaise(level uint32) error {
	if level < v.featureLevel {
		return fmt.Errorf("%w: the cluster works at %d and can never go back to %d", ErrFeatureLevel, v.featureLevel, level)
	}
	for _, b := range v.Brokers() {
		if level <= b.FeatureMax && level >= b.FeatureMin {
			continue
		}
		if b.FeatureMax == 0 {
			return fmt.Errorf("%w: broker %d has not said yet what its build can", ErrFeatureLevel, b.ID)
		}
		return fmt.Errorf("%w: broker %d's build works at %d to %d, not at %d", ErrFeatureLevel, b.ID, b.FeatureMin, b.FeatureMax, level)
	}
	return nil
}

// Lacks says whether there is something in a broker's registration that the
// cluster's level had no room for when it was made, and has now: it is to be
// made again.
func (v *View) Lacks(r *Registration) bool {
	b := v.brokers[r.ID]
	return b != nil && v.featureLevel >= levelBuilds && b.Build != r.Build
}
