package guard

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dewar-security/dewar/internal/store"
)

var modeNames = [...]string{"enforce", "observe", "off"}

// String returns the mode as settings spell it.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("invalid(%d)", m)
}

// MarshalText implements [encoding.TextMarshaler].
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *Mode) UnmarshalText(b []byte) error {
	for i, n := range modeNames {
		if n == string(b) {
			*m = Mode(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a mode: write \"enforce\", \"observe\" or \"off\"", b)
}

var verdictNames = [...]string{"allow", "note", "answer", "observe", "deny"}

// String returns the verdict as events spell it.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("invalid(%d)", v)
}

// Size is a number of bytes, written "512 KB" or "10 MiB" in settings. KB and
// KiB both mean 1024 bytes, as in nginx and gunicorn.
type Size int64

var sizeUnits = []struct {
	name string
	n    int64
}{{"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {"", 1}}

// String writes s in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if int64(s) >= u.n && int64(s)%u.n == 0 {
			if u.n == 1 {
				break
			}
			return fmt.Sprintf("%d %siB", int64(s)/u.n, strings.ToUpper(u.name))
		}
	}
	return strconv.FormatInt(int64(s), 10) + " B"
}

// MarshalText implements [encoding.TextMarshaler].
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(b []byte) error {
	text := strings.ToLower(strings.ReplaceAll(string(b), " ", ""))
	num := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	unit := strings.TrimSuffix(strings.TrimSuffix(text[len(num):], "b"), "i")
	for _, u := range sizeUnits {
		if u.name != unit {
			continue
		}
		n, err := strconv.ParseInt(num, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.n {
			break
		}
		*s = Size(n * u.n)
		return nil
	}
	return fmt.Errorf("%q is not a size: write a whole number and a unit, such as \"512 KB\" or \"10 MB\"", b)
}

// Duration is a span of time, written as Go writes it ("30s", "5m", "1h30m"),
// with "d" for 24 hours.
type Duration time.Duration

// String writes d as [Duration.UnmarshalText] reads it.
func (d Duration) String() string {
	if t := time.Duration(d); t >= 24*time.Hour && t%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", t/(24*time.Hour))
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseInt(days, 10, 32); err == nil && n >= 0 && n <= 36500 {
			*d = Duration(time.Duration(n) * 24 * time.Hour)
			return nil
		}
	}
	t, err := time.ParseDuration(s)
	if err != nil || t < 0 {
		return fmt.Errorf("%q is not a duration: write a number and a unit, such as \"30s\", \"5m\" or \"7d\"", s)
	}
	*d = Duration(t)
	return nil
}

// Override changes how the guard treats some routes: one [[route]] table of
// dewar.toml. The first whose Path and Methods match a request applies.
type Override struct {
	Path    string          `toml:"path" jsonschema_description:"Pattern on the decoded path: * matches within a segment, ** across segments, /hooks/** also matches /hooks. Or a rule as the app has it, such as /orders/<int:order_id>."`
	Methods []string        `toml:"methods" jsonschema_description:"Methods the override is for; empty means all."`
	Reason  string          `toml:"reason" jsonschema_description:"Why this route is different. Required: it stands in evidence."`
	Modes   map[string]Mode `toml:"modes" jsonschema_description:"Mode of single layers on these routes, such as { csrf = \"observe\" }."`
	Rate    *store.Rate     `toml:"rate" jsonschema_description:"Rate limit per client on these routes, such as \"10/m\", instead of the general one."`
	MaxBody *Size           `toml:"max-body" jsonschema_description:"Largest request body on these routes, such as \"50 MB\"."`
	Stream  bool            `toml:"stream" jsonschema_description:"Hand request bodies to the app as they come instead of gathering them first: for uploads too large to keep. Their size is bounded (max-body), their content is not inspected, and a slow client holds one of the app's threads."`
	Files   FilesOverride   `toml:"files" jsonschema_description:"What uploaded files may be on these routes."`
	WAF     WAFOverride     `toml:"waf" jsonschema_description:"Rules and parameters the WAF leaves out on these routes."`
}

// FilesOverride changes what the files layer does on some routes.
type FilesOverride struct {
	Extensions []string `toml:"extensions" jsonschema_description:"Extensions of file names that are accepted here, instead of those of uploads.extensions."`
	Allow      []string `toml:"allow" jsonschema_description:"Dangers in files that are neither refused nor noted here, such as \"macro\"."`
	Refuse     []string `toml:"refuse" jsonschema_description:"Dangers in files that are refused here instead of noted."`
	KeepBody   bool     `toml:"keep-body" jsonschema_description:"Hand multipart bodies to the app byte for byte as they came: for webhooks whose signature covers the body."`
	Images     string   `toml:"images" jsonschema_description:"keep or reencode, instead of uploads.images."`
	ClamAV     string   `toml:"clamav" jsonschema_description:"hold, later or off, instead of uploads.clamav-when."`
}

// WAFOverride narrows what the WAF looks at on some routes.
type WAFOverride struct {
	Exclude    []int    `toml:"exclude" jsonschema_description:"Ids of Core Rule Set rules that do not apply here."`
	Parameters []string `toml:"parameters" jsonschema_description:"Request parameters (query, form or JSON) that the excluded rules ignore; empty means the rules are off altogether."`
}

// Problem is a setting that cannot be used: what a section's Problems method
// returns. Key is relative to the section.
type Problem struct{ Key, Message string }

// TOMLString writes a basic string of TOML 1.0, for settings that a layer
// proposes. Go's quoting has escapes that TOML does not know, and a log may
// hold any bytes.
func TOMLString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range strings.ToValidUTF8(s, "\ufffd") {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c >= 0x7f && c < 0xa0 || !unicode.IsPrint(c) && c <= 0xffff:
			fmt.Fprintf(&b, "\\u%04X", c)
		case !unicode.IsPrint(c):
			fmt.Fprintf(&b, "\\U%08X", c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
