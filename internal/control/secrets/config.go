package secrets

// Config is the [secrets] section of dewar.toml. The promise has nothing to
// set yet: how weak a key may be is no matter of taste.
type Config struct{}
