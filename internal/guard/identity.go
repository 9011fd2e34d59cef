package guard

import "github.com/dewar-security/dewar/internal/policy"

// Identity is whom a request belongs to, as far as it was proven. Two layers
// fill it in: session says what the app's own session holds, authn whom a
// provider or a token vouches for. Empty fields are unknown, never "nobody".
type Identity struct {
	// Account is the app's own user id, read from its session
	// ("_user_id" of Flask-Login). It names a person: logs get it redacted.
	// Once an answer has logged somebody in, it is that account.
	Account string
	// Session is a handle of the session, for logs and for the operator. It
	// opens nothing.
	Session string
	// Device is a handle of the browser, kept for longer than a session.
	Device string
	// Subject is the user at Issuer (the "sub" and "iss" of OpenID Connect),
	// Roles what that issuer says of the user: groups, roles and scopes.
	Subject, Issuer string
	Roles           []string
	// Ambient says that Subject was proven by what a browser attaches by
	// itself, a cookie: another site's page can borrow it (CWE-352). A bearer
	// token is not.
	Ambient bool
}

// SessionChange is what an answer did to the app's session.
type SessionChange uint8

const (
	// NoChange: nothing that a guard has to know.
	NoChange SessionChange = iota
	// LoggedIn: the session belongs to an account that it did not belong to
	// before.
	LoggedIn
	// LoggedOut: the session belongs to nobody any more.
	LoggedOut
	// Renewed: the same account, with other rights or a fresh login.
	Renewed
)

// String names the change.
func (c SessionChange) String() string {
	switch c {
	case LoggedIn:
		return "logged in"
	case LoggedOut:
		return "logged out"
	case Renewed:
		return "renewed"
	}
	return "no change"
}

// Match returns what p says of the request: matched once, and remembered.
// The zero Match, which knows nothing and is not certain, stands for no policy.
func (x *Exchange) Match(p *policy.Policy) policy.Match {
	if p == nil {
		return policy.Match{}
	}
	if k := (matchKey{p, x.Request.Method, x.Path}); x.matched != k {
		x.match, x.matched = p.Match(k.method, k.path), k
	}
	return x.match
}

// matchKey is what a remembered match was asked for.
type matchKey struct {
	p            *policy.Policy
	method, path string
}
