package uploads

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/clamd"
	"github.com/dewar-security/dewar/internal/guard"
)

// Config is the [uploads] section of dewar.toml: how large and of what kind a
// request body may be.
type Config struct {
	Mode             guard.Mode     `toml:"mode" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the body layer."`
	MaxBody          guard.Size     `toml:"max-body" default:"10 MB" jsonschema_description:"Largest request body; a route's max-body goes before."`
	MaxForm          guard.Size     `toml:"max-form" default:"1 MB" jsonschema_description:"Largest form, JSON, XML or text body, and the most that the fields of a multipart body may hold together, files not counted."`
	MaxSensitive     guard.Size     `toml:"max-sensitive" default:"256 KB" jsonschema_description:"Largest body where the source says that the route is a login, a reset, a registration or a token and takes no file; a route's max-body goes before."`
	MaxFile          guard.Size     `toml:"max-file" default:"10 MB" jsonschema_description:"Largest single file in a multipart body."`
	MaxFiles         int            `toml:"max-files" default:"20" jsonschema:"minimum=1" jsonschema_description:"Most files in one multipart body."`
	MaxFields        int            `toml:"max-fields" default:"1000" jsonschema:"minimum=1" jsonschema_description:"Most fields in one multipart body."`
	ContentTypes     []string       `toml:"content-types" jsonschema_description:"Content types of request bodies that are accepted, such as \"application/json\" or \"image/*\". Empty: all."`
	RequireLength    bool           `toml:"require-length" jsonschema_description:"Refuse bodies whose length is not announced (chunked transfer coding)."`
	Memory           guard.Size     `toml:"memory" default:"64 MB" jsonschema_description:"Most memory that request bodies take together while they are gathered; beyond it they lie in unlinked files."`
	Disk             guard.Size     `toml:"disk" default:"4 GB" jsonschema_description:"Most disk ($TMPDIR) that request bodies take together; beyond it they are refused with 503."`
	Files            guard.Mode     `toml:"files" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the files layer, which looks into uploaded files."`
	Extensions       []string       `toml:"extensions" jsonschema_description:"Extensions of file names that are accepted, such as \"png\" or \"pdf\"; a route's files.extensions go before. Empty: all, or those that the app's code compares with."`
	SourceExtensions guard.Mode     `toml:"source-extensions" default:"observe" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"What becomes of a file whose extension is none of those that the app's own code compares with, where the audit found that list and no extensions are set. With observe the app answers in its own words, and it is noted; enforce refuses the file before it reaches the app."`
	Allow            []string       `toml:"allow" jsonschema_description:"Dangers in files that are neither refused nor noted, such as \"macro\" or \"svg-script\": the names of the reasons that begin with file-, without that."`
	Refuse           []string       `toml:"refuse" jsonschema_description:"Dangers in files that are refused instead of noted, such as \"macro\", \"pdf-script\", \"encrypted\" or \"opaque\"."`
	KeepBody         bool           `toml:"keep-body" jsonschema_description:"Hand multipart bodies to the app byte for byte as they came, instead of written anew from what was understood: for apps that check a signature over the body."`
	MaxUnpacked      guard.Size     `toml:"max-unpacked" default:"100 MB" jsonschema_description:"Most that all levels of an archive or compressed file may unpack to together; ten times the file's own size is always allowed."`
	MaxRatio         int            `toml:"max-ratio" default:"200" jsonschema:"minimum=1" jsonschema_description:"Largest ratio of unpacked to packed bytes, above the first 10 MB."`
	MaxEntries       int            `toml:"max-entries" default:"50000" jsonschema:"minimum=1" jsonschema_description:"Most entries of an archive, all levels together."`
	MaxNesting       int            `toml:"max-nesting" default:"4" jsonschema:"minimum=1" jsonschema_description:"How many archives may stand in one another."`
	MaxPixels        int            `toml:"max-pixels" default:"100000000" jsonschema:"minimum=1" jsonschema_description:"Most pixels of an image, width times height."`
	InspectTimeout   guard.Duration `toml:"inspect-timeout" default:"30s" jsonschema_description:"Longest look at one file, waiting for its turn included."`
	Images           string         `toml:"images" default:"keep" jsonschema:"enum=keep,enum=reencode" jsonschema_description:"What becomes of images: keep (as they came) or reencode (decoded and written anew, which takes away metadata such as places and whatever is hidden; JPEG loses a little quality). Formats that cannot be written (HEIC, AVIF, TIFF, …) are refused with reencode."`
	ClamAV           string         `toml:"clamav" jsonschema_description:"Address of ClamAV's daemon, such as \"unix:/run/clamav/clamd.ctl\" or \"127.0.0.1:3310\". Empty: files are not scanned for malware."`
	ClamAVWhen       string         `toml:"clamav-when" default:"hold" jsonschema:"enum=hold,enum=later" jsonschema_description:"hold: the app gets a file when it is known to be clean. later: the app gets it at once, and an event says what is found afterwards; needs quarantine."`
	ClamAVFailure    string         `toml:"clamav-failure" default:"closed" jsonschema:"enum=closed,enum=open" jsonschema_description:"What becomes of files while the daemon cannot be asked, or that are larger than it takes: closed (refused) or open (passed and noted)."`
	ClamAVTimeout    guard.Duration `toml:"clamav-timeout" default:"60s" jsonschema_description:"Longest scan of one file."`
	Quarantine       string         `toml:"quarantine" jsonschema_description:"Folder in which refused files are kept, outside of everything that is served. Empty: they are not kept."`
	QuarantineAge    guard.Duration `toml:"quarantine-age" default:"30d" jsonschema_description:"How long files stay in quarantine."`
	QuarantineSize   guard.Size     `toml:"quarantine-size" default:"1 GB" jsonschema_description:"Most that the quarantine holds, files that wait for a later scan included, and 10,000 files at most; the oldest make room. What waits takes half of it at most: what there is no room for then is unscanned, and clamav-failure says what becomes of it."`
	Directories      bool           `toml:"directories" jsonschema_description:"Accept relative paths in file names, as browsers send them when a visitor uploads a whole directory."`
}

// withDefaults fills in what the zero Config leaves open, with the values of
// the default tags.
func (c Config) withDefaults() Config {
	for _, s := range []struct {
		p *guard.Size
		v guard.Size
	}{{&c.MaxBody, 10 << 20}, {&c.MaxForm, 1 << 20}, {&c.MaxSensitive, 256 << 10}, {&c.MaxFile, 10 << 20}, {&c.MaxUnpacked, 100 << 20}, {&c.QuarantineSize, 1 << 30}} {
		if *s.p == 0 {
			*s.p = s.v
		}
	}
	for _, n := range []struct {
		p *int
		v int
	}{{&c.MaxFiles, 20}, {&c.MaxFields, 1000}, {&c.MaxRatio, 200}, {&c.MaxEntries, 50_000}, {&c.MaxNesting, 4}, {&c.MaxPixels, 100_000_000}} {
		if *n.p == 0 {
			*n.p = n.v
		}
	}
	for _, d := range []struct {
		p *guard.Duration
		v time.Duration
	}{{&c.InspectTimeout, 30 * time.Second}, {&c.ClamAVTimeout, time.Minute}, {&c.QuarantineAge, 30 * 24 * time.Hour}} {
		if *d.p == 0 {
			*d.p = guard.Duration(d.v)
		}
	}
	c.Images = cmp.Or(c.Images, "keep")
	c.ClamAVWhen = cmp.Or(c.ClamAVWhen, "hold")
	c.ClamAVFailure = cmp.Or(c.ClamAVFailure, "closed")
	return c
}

// Problems reports settings that cannot be used.
func (c *Config) Problems() []guard.Problem {
	var out []guard.Problem
	for _, n := range []struct {
		key string
		v   int64
	}{{"max-body", int64(c.MaxBody)}, {"max-form", int64(c.MaxForm)}, {"max-sensitive", int64(c.MaxSensitive)}, {"max-file", int64(c.MaxFile)}, {"memory", int64(c.Memory)}, {"disk", int64(c.Disk)}, {"max-files", int64(c.MaxFiles)}, {"max-fields", int64(c.MaxFields)},
		{"max-unpacked", int64(c.MaxUnpacked)}, {"max-ratio", int64(c.MaxRatio)}, {"max-entries", int64(c.MaxEntries)}, {"max-nesting", int64(c.MaxNesting)}, {"max-pixels", int64(c.MaxPixels)},
		{"inspect-timeout", int64(c.InspectTimeout)}, {"clamav-timeout", int64(c.ClamAVTimeout)}, {"quarantine-age", int64(c.QuarantineAge)}, {"quarantine-size", int64(c.QuarantineSize)}} {
		if n.v < 0 {
			out = append(out, guard.Problem{Key: n.key, Message: "must be positive"})
		}
	}
	for _, t := range c.ContentTypes {
		if !validTypePattern(t) {
			out = append(out, guard.Problem{Key: "content-types", Message: fmt.Sprintf("%q is not a content type: write \"application/json\" or \"image/*\"", t)})
		}
	}
	for key, list := range map[string][]string{"allow": c.Allow, "refuse": c.Refuse} {
		if what := dangerProblem(list); what != "" {
			out = append(out, guard.Problem{Key: key, Message: what})
		}
	}
	for _, e := range c.Extensions {
		if e = strings.TrimPrefix(strings.TrimSpace(e), "."); e == "" || strings.ContainsAny(e, "./\\ ") {
			out = append(out, guard.Problem{Key: "extensions", Message: fmt.Sprintf("%q is no extension: write \"png\"", e)})
		}
	}
	for _, s := range []struct{ key, value, words string }{
		{"images", c.Images, "keep reencode"}, {"clamav-when", c.ClamAVWhen, "hold later"}, {"clamav-failure", c.ClamAVFailure, "closed open"},
	} {
		if s.value != "" && !slices.Contains(strings.Fields(s.words), s.value) {
			out = append(out, guard.Problem{Key: s.key, Message: fmt.Sprintf("%q: write one of %s", s.value, s.words)})
		}
	}
	if c.ClamAV != "" {
		if _, err := clamd.Parse(c.ClamAV); err != nil {
			out = append(out, guard.Problem{Key: "clamav", Message: err.Error()})
		}
	}
	switch {
	case c.ClamAVWhen == "later" && c.ClamAV == "":
		out = append(out, guard.Problem{Key: "clamav-when", Message: "needs clamav, the daemon's address"})
	case c.ClamAVWhen == "later" && c.Quarantine == "":
		out = append(out, guard.Problem{Key: "clamav-when", Message: "\"later\" needs quarantine: a file that is found bad later has to be kept somewhere"})
	}
	if c.Quarantine != "" && slices.Contains(strings.Split(filepath.ToSlash(c.Quarantine), "/"), "static") {
		out = append(out, guard.Problem{Key: "quarantine", Message: "lies in a folder called static: what is served must not hold malware"})
	}
	return out
}
