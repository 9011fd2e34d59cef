package injection

import (
	"testing"

	"github.com/dewar-security/dewar/internal/audit/audittest"
)

func TestRules(t *testing.T) { audittest.Run(t, rules) }
