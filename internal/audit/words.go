package audit

import (
	"fmt"
	"slices"
	"strings"
)

var (
	severityNames   = []string{"", "low", "medium", "high", "critical"}
	confidenceNames = []string{"", "possible", "likely", "certain"}
)

// String returns the severity as reports spell it.
func (s Severity) String() string { return word(severityNames, uint8(s)) }

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Severity) UnmarshalText(b []byte) error {
	n, err := wordIndex("severity", severityNames, string(b))
	*s = Severity(n)
	return err
}

// String returns the confidence as reports spell it.
func (c Confidence) String() string { return word(confidenceNames, uint8(c)) }

// MarshalText implements [encoding.TextMarshaler].
func (c Confidence) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *Confidence) UnmarshalText(b []byte) error {
	n, err := wordIndex("confidence", confidenceNames, string(b))
	*c = Confidence(n)
	return err
}

// FailOn is the threshold from which a finding makes an audit fail. The zero
// value fails on every finding.
type FailOn struct {
	Severity   Severity
	Confidence Confidence
	// Never lets the audit succeed whatever it finds; the text form is
	// "never".
	Never bool
}

// Reached reports whether f is at or above the threshold.
func (t FailOn) Reached(f *Finding) bool {
	return !t.Never && f.Rule.Severity >= t.Severity && f.Sure() >= t.Confidence
}

// String returns the form that [FailOn.UnmarshalText] reads.
func (t FailOn) String() string {
	switch {
	case t.Never:
		return "never"
	case t.Confidence == 0:
		return max(t.Severity, Low).String()
	}
	return max(t.Severity, Low).String() + "/" + t.Confidence.String()
}

// MarshalText implements [encoding.TextMarshaler].
func (t FailOn) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads "high", "high/likely" (a severity, and the least
// confidence) or "never".
func (t *FailOn) UnmarshalText(b []byte) error {
	*t = FailOn{}
	s, c, both := strings.Cut(string(b), "/")
	if s == "never" && !both {
		t.Never = true
		return nil
	}
	if err := t.Severity.UnmarshalText([]byte(s)); err != nil {
		return fmt.Errorf("%w, or \"never\"", err)
	}
	if both {
		return t.Confidence.UnmarshalText([]byte(c))
	}
	return nil
}

func word(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("invalid(%d)", i)
}

func wordIndex(what string, names []string, s string) (int, error) {
	if i := slices.Index(names[1:], s); i >= 0 {
		return i + 1, nil
	}
	return 0, fmt.Errorf("unknown %s %q (want %s)", what, s, strings.Join(names[1:], ", "))
}
