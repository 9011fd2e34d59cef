package pyflow

// Forget lets every call be run anew; what is found must not depend on it.
func (c *Config) Forget() { c.forget = true }
