package report

import (
	"bytes"
	"cmp"
	"unicode/utf8"

	"github.com/dewar-security/dewar/internal/audit"
)

// The part of SARIF 2.1.0 that holds repairs (3.55 to 3.57).
type (
	sarifFix struct {
		Description     sarifText             `json:"description"`
		ArtifactChanges []sarifArtifactChange `json:"artifactChanges"`
	}
	sarifArtifactChange struct {
		ArtifactLocation sarifArtifact      `json:"artifactLocation"`
		Replacements     []sarifReplacement `json:"replacements"`
	}
	sarifReplacement struct {
		DeletedRegion   sarifRegion `json:"deletedRegion"`
		InsertedContent *sarifText  `json:"insertedContent,omitempty"`
	}
)

// fixesSARIF returns a finding's edits, or nothing if a place in them cannot
// be told in characters: a file that is gone, or is not UTF-8.
func fixesSARIF(f audit.Finding, source func(string) []byte) []sarifFix {
	if len(f.Edits) == 0 || source == nil {
		return nil
	}
	fix := sarifFix{Description: sarifText{Text: cmp.Or(f.Fix, f.Rule.Fix, f.Rule.Title)}}
	at := map[string]int{}
	for _, e := range f.Edits {
		data := source(e.File)
		if data == nil || e.Start < 0 || e.Start > e.End || e.End > len(data) || !utf8.Valid(data) || bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
			return nil
		}
		i, ok := at[e.File]
		if !ok {
			i = len(fix.ArtifactChanges)
			at[e.File] = i
			fix.ArtifactChanges = append(fix.ArtifactChanges, sarifArtifactChange{ArtifactLocation: artifact(e.File)})
		}
		r := sarifReplacement{}
		r.DeletedRegion.StartLine, r.DeletedRegion.StartColumn = lineColumn(data, e.Start)
		r.DeletedRegion.EndLine, r.DeletedRegion.EndColumn = lineColumn(data, e.End)
		if e.New != "" {
			r.InsertedContent = &sarifText{Text: e.New}
		}
		fix.ArtifactChanges[i].Replacements = append(fix.ArtifactChanges[i].Replacements, r)
	}
	return []sarifFix{fix}
}

// lineColumn returns the line and the column, in characters, of an offset.
func lineColumn(data []byte, offset int) (line, column int) {
	before := data[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[start:]) + 1
}
