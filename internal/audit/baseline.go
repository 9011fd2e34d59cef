package audit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const baselineVersion = 1

// Baseline lists findings that somebody decided to live with, usually those
// that were there when Dewar came to the project. Each entry silences one
// finding: a second one like it is new.
type Baseline struct {
	Entries []BaselineEntry
}

// BaselineEntry is one accepted finding. Only the fingerprint decides; the
// rest is for people.
type BaselineEntry struct {
	Fingerprint string `json:"fingerprint"`
	Rule        string `json:"rule"`
	File        string `json:"file"`
	Message     string `json:"message"`
	// Reason is what the report says about it; "in the baseline" if empty.
	Reason string `json:"reason,omitempty"`
}

type baselineFile struct {
	Version  int             `json:"version"`
	Findings []BaselineEntry `json:"findings"`
}

var fingerprintRE = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ReadBaseline reads what [Baseline.Write] wrote. name is for the error,
// which says the line and what to do.
func ReadBaseline(r io.Reader, name string) (*Baseline, error) {
	const limit = 64 << 20
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s: larger than %d MiB; is it a baseline?", name, limit>>20)
	}
	const fix = "write the baseline again with dewar audit --write-baseline"
	at := func(off int64) int { return 1 + bytes.Count(data[:min(max(off, 0), int64(len(data)))], []byte("\n")) }
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var f baselineFile
	if err := d.Decode(&f); err != nil {
		off := d.InputOffset()
		var se *json.SyntaxError
		var te *json.UnmarshalTypeError
		switch {
		case errors.As(err, &se):
			off = se.Offset
		case errors.As(err, &te):
			off = te.Offset
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			off, err = int64(len(data)), errors.New("the file ends too early")
		}
		return nil, fmt.Errorf("%s:%d: %s; %s", name, at(off), strings.TrimPrefix(err.Error(), "json: "), fix)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%s:%d: text after the end; %s", name, at(d.InputOffset()), fix)
	}
	if f.Version != baselineVersion {
		return nil, fmt.Errorf("%s: version %d is not known to this Dewar, which writes version %d; %s", name, f.Version, baselineVersion, fix)
	}
	for i, e := range f.Findings {
		if !fingerprintRE.MatchString(e.Fingerprint) {
			line := 1
			if j := bytes.Index(data, []byte(strconv.Quote(e.Fingerprint))); j >= 0 {
				line = at(int64(j))
			}
			return nil, fmt.Errorf("%s:%d: finding %d: %q is not a fingerprint (32 hexadecimal digits); %s", name, line, i+1, e.Fingerprint, fix)
		}
	}
	return &Baseline{Entries: f.Findings}, nil
}

// Write writes b sorted by file, rule and fingerprint, so that a change of
// one finding is a change of one entry.
func (b *Baseline) Write(w io.Writer) error {
	f := baselineFile{Version: baselineVersion, Findings: slices.Clone(b.Entries)}
	if f.Findings == nil {
		f.Findings = []BaselineEntry{}
	}
	slices.SortFunc(f.Findings, func(a, b BaselineEntry) int {
		return cmp.Or(strings.Compare(a.File, b.File), strings.Compare(a.Rule, b.Rule), strings.Compare(a.Fingerprint, b.Fingerprint))
	})
	f.Findings = slices.CompactFunc(f.Findings, func(a, b BaselineEntry) bool { return a.Fingerprint == b.Fingerprint })
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(f)
}

// Baseline returns the baseline that silences what r found: its findings,
// and what the baseline it was given silenced already, with the reasons.
// What a comment silences needs no entry.
func (r *Result) Baseline() *Baseline {
	b := &Baseline{}
	add := func(f *Finding, reason string) {
		b.Entries = append(b.Entries, BaselineEntry{
			Fingerprint: f.Fingerprint, Rule: f.Rule.ID, File: f.Span.File, Message: f.Message, Reason: reason,
		})
	}
	for i := range r.Findings {
		add(&r.Findings[i], "")
	}
	for i := range r.Suppressed {
		if f := &r.Suppressed[i]; f.Suppressed.Kind == KindBaseline {
			reason := f.Suppressed.Reason
			if reason == noReason {
				reason = ""
			}
			add(f, reason)
		}
	}
	return b
}

const noReason = "in the baseline"

// fingerprints names every finding by its rule, its file and the text of its
// line, and tells equal ones apart by counting. all is sorted by place.
func fingerprints(p *Project, all []Finding) {
	seen := map[string]int{}
	for i := range all {
		f := &all[i]
		text := ""
		if file := p.File(f.Span.File); file != nil {
			text = strings.Join(strings.Fields(file.Line(f.Span.Line)), " ")
			if file.Kind == Env {
				// The baseline is committed, the file is not: a hash over a
				// weak secret could be guessed back.
				text, _, _ = strings.Cut(text, "=")
			}
		}
		key := f.Rule.ID + "\x00" + f.Span.File + "\x00" + text
		h := sha256.Sum256([]byte(key + "\x00" + strconv.Itoa(seen[key])))
		seen[key]++
		f.Fingerprint = hex.EncodeToString(h[:16])
	}
}
