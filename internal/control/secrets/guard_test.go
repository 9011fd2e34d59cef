package secrets

import (
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
)

func TestSecretKey(t *testing.T) {
	good, weak := guard.NewSecret("8f42a73054b1749f8f58848be5e6502c"), guard.NewSecret("you-will-never-guess")
	for _, tt := range []struct {
		f    guard.Facts
		want string
		err  bool
	}{
		{guard.Facts{Known: true, AppFound: true, SecretKey: good}, "", false},
		{guard.Facts{Known: true, AppFound: true, SecretKey: good, SecretKeyFallbacks: []guard.Secret{good}}, "", false},
		{guard.Facts{Known: true, AppFound: true}, "", false},
		{guard.Facts{Known: true, AppFound: true, SecretKey: weak}, "SECRET_KEY is a published key", false},
		{guard.Facts{Known: true, AppFound: true, SecretKey: good, SecretKeyFallbacks: []guard.Secret{good, weak}}, "SECRET_KEY_FALLBACKS[1] is a published key", false},
		{guard.Facts{Known: true, AppFound: true, SecretKey: good, SecretKeyFallbacks: []guard.Secret{{}}}, "SECRET_KEY_FALLBACKS[0] is empty", false},
		{guard.Facts{Known: true}, "", true},
		{guard.Facts{SecretKey: weak, Why: "no hook"}, "", true},
		{guard.Facts{}, "", true},
	} {
		p, err := checkSecretKey(tt.f)
		if !strings.HasPrefix(p, tt.want) || (p == "") != (tt.want == "") || (err != nil) != tt.err {
			t.Errorf("%q, %v; want %q", p, err, tt.want)
		}
		if strings.Contains(p, "guess") {
			t.Errorf("the problem quotes the key: %s", p)
		}
	}
}
