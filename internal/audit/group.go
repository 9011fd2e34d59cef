package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Grouped puts the findings of a rule that have one [Finding.Cause] into one,
// for people: all is a part of a [Result], in its order. What stands in for
// them is the surest, the first of those, with all in Places and a fingerprint
// of the cause, which stays when places come and go. Baselines, suppressions
// and --since speak of the places, so a new one is new.
//
// Findings that were silenced are put together if they were silenced the same
// way, for the same reason.
func Grouped(all []Finding) []Finding {
	type key struct {
		rule         *Rule
		cause        string
		kind, reason string
	}
	at := map[key]int{}
	out := make([]Finding, 0, len(all))
	for _, f := range all {
		if f.Cause == "" {
			out = append(out, f)
			continue
		}
		k := key{rule: f.Rule, cause: f.Cause}
		if f.Suppressed != nil {
			k.kind, k.reason = f.Suppressed.Kind, f.Suppressed.Reason
		}
		i, ok := at[k]
		if !ok {
			i = len(out)
			at[k] = i
			out = append(out, Finding{})
		}
		out[i].Places = append(out[i].Places, f)
	}
	for i := range out {
		places := out[i].Places
		if places == nil {
			continue
		}
		f := places[0]
		files := map[string]bool{}
		for _, p := range places {
			files[p.Span.File] = true
			if p.Sure() > f.Sure() {
				f = p
			}
		}
		f.Places = places
		if len(places) > 1 {
			where := ""
			if len(files) > 1 {
				where = fmt.Sprintf(" in %d files", len(files))
			}
			// What the place says of itself stands under its code.
			f.Label = cmp.Or(f.Label, f.Message)
			f.Message = fmt.Sprintf("%s: %d places%s", f.Cause, len(places), where)
		}
		h := sha256.Sum256([]byte(f.Rule.ID + "\x00cause\x00" + f.Cause))
		f.Fingerprint = hex.EncodeToString(h[:16])
		out[i] = f
	}
	slices.SortStableFunc(out, compareFindings)
	return out
}

// Others returns the places of a cause but the one that stands in for them.
func (f *Finding) Others() []Finding {
	var out []Finding
	for _, p := range f.Places {
		if p.Span != f.Span {
			out = append(out, p)
		}
	}
	return out
}
