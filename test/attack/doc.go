// Package attack holds no code but tests: the attacks that Dewar exists to
// stop, with the ways around that people use, driven by a real HTTP client
// against the real example app examples/leaky under gunicorn.
//
// Every attack runs twice. Against the bare app it must succeed: that shows
// that the attack is one, and that the test can fail. Behind "dewar run" it
// must not, and the security log must name the layer that stopped it: an
// attack that fails for another reason (a rate limit, a ban, a typing error)
// is no proof.
//
// The honest requests in honest_test.go run behind the same guard, with the
// same settings, and must all pass.
package attack
