package authn

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
)

// Who reads nothing of an unverified token but who says to have made it looks
// for the key, if the project verifies tokens at all.
func TestOnlyIssuer(t *testing.T) {
	const verifies = "\ndef good(token):\n    return jwt.decode(token, KEY, algorithms=[\"HS256\"])\n"
	const peek = "import jwt\n\ndef who(token):\n    claims = jwt.decode(token, options={\"verify_signature\": False})\n    return "
	for text, want := range map[string]audit.Confidence{
		peek + "claims.get(\"iss\")\n" + verifies:                    audit.Possible,
		peek + "claims[\"iss\"], claims[\"aud\"]\n" + verifies:       audit.Possible,
		peek + "claims.get(\"iss\")\n":                               audit.Certain,
		peek + "claims.get(\"sub\")\n" + verifies:                    audit.Certain,
		peek + "claims\n" + verifies:                                 audit.Certain,
		peek + "claims[\"iss\"] and claims[\"name\"]\n" + verifies:   audit.Certain,
		peek + "load(claims) if claims[\"iss\"] else 0\n" + verifies: audit.Certain,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := audit.Load(context.Background(), dir, audit.Options{})
		if err != nil {
			t.Fatal(err)
		}
		found := audit.Run(context.Background(), p, proofRules, audit.Options{}).Findings
		if len(found) != 1 || found[0].Rule.ID != "DW-AUTHN-003" || found[0].Sure() != want {
			t.Errorf("%d findings %v of\n%s", len(found), found, text)
		}
	}
}
