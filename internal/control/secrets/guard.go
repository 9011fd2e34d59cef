package secrets

import (
	"errors"
	"fmt"

	"github.com/dewar-security/dewar/internal/flasksession"
	"github.com/dewar-security/dewar/internal/guard"
)

var preflights = []*guard.Preflight{{
	Name:      "secret-key",
	Control:   "secrets",
	Does:      "Refuses to start an app whose SECRET_KEY is short, guessable or published, SECRET_KEY_FALLBACKS included.",
	Why:       "Flask signs sessions with SECRET_KEY. Whoever finds it out is any user, and finding it out takes one cookie and a word list: half a million keys per second on one core (CWE-321, CWE-1391).",
	Fix:       "Set SECRET_KEY to the output of: python -c 'import secrets; print(secrets.token_hex(32))'",
	RelaxedIn: []guard.Profile{guard.Development},
	Check:     checkSecretKey,
}}

func checkSecretKey(f guard.Facts) (string, error) {
	switch {
	case !f.Known && f.Why != "":
		return "", errors.New(f.Why)
	case !f.Known:
		return "", errors.New("nothing is known about the running app")
	case !f.AppFound:
		return "", errors.New("no Flask app was found behind the WSGI callable")
	case f.SecretKey.IsZero():
		// Flask signs nothing without a key: there is no session to forge,
		// and an app without sessions needs none.
		return "", nil
	}
	if why := flasksession.WeakKey(f.SecretKey.Reveal()); why != "" {
		return "SECRET_KEY " + why, nil
	}
	// Flask accepts sessions signed with any of them.
	for i, k := range f.SecretKeyFallbacks {
		if k.IsZero() {
			return fmt.Sprintf("SECRET_KEY_FALLBACKS[%d] is empty", i), nil
		}
		if why := flasksession.WeakKey(k.Reveal()); why != "" {
			return fmt.Sprintf("SECRET_KEY_FALLBACKS[%d] %s", i, why), nil
		}
	}
	return "", nil
}
