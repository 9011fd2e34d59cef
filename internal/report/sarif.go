package report

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
)

// The part of SARIF 2.1.0 (OASIS, errata 01) that Dewar writes. A test holds
// the output against the official schema.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool               sarifTool                `json:"tool"`
		ColumnKind         string                   `json:"columnKind"`
		OriginalURIBaseIDs map[string]sarifArtifact `json:"originalUriBaseIds,omitempty"`
		Invocations        []sarifInvocation        `json:"invocations"`
		Results            []sarifResult            `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name            string      `json:"name"`
		SemanticVersion string      `json:"semanticVersion,omitempty"`
		Version         string      `json:"version"`
		InformationURI  string      `json:"informationUri"`
		Rules           []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID                   string          `json:"id"`
		Name                 string          `json:"name"`
		ShortDescription     sarifText       `json:"shortDescription"`
		FullDescription      sarifText       `json:"fullDescription"`
		Help                 sarifText       `json:"help"`
		DefaultConfiguration sarifDefault    `json:"defaultConfiguration"`
		Properties           sarifProperties `json:"properties"`
	}
	sarifDefault struct {
		Level string `json:"level"`
	}
	sarifProperties struct {
		Tags             []string `json:"tags"`
		Precision        string   `json:"precision"`
		SecuritySeverity string   `json:"security-severity"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifInvocation struct {
		ExecutionSuccessful        bool                `json:"executionSuccessful"`
		ToolExecutionNotifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
	}
	sarifResult struct {
		RuleID              string             `json:"ruleId"`
		RuleIndex           int                `json:"ruleIndex"`
		Level               string             `json:"level"`
		Rank                float64            `json:"rank"`
		Message             sarifText          `json:"message"`
		Locations           []sarifLocation    `json:"locations"`
		RelatedLocations    []sarifLocation    `json:"relatedLocations,omitempty"`
		CodeFlows           []sarifCodeFlow    `json:"codeFlows,omitempty"`
		PartialFingerprints map[string]string  `json:"partialFingerprints,omitempty"`
		Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
		Fixes               []sarifFix         `json:"fixes,omitempty"`
		Properties          sarifSureness      `json:"properties"`
	}
	// sarifSureness is how bad a finding is and how sure it is here, where
	// SARIF has a word for the level only.
	sarifSureness struct {
		Confidence string `json:"confidence"`
		Severity   string `json:"severity"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification,omitempty"`
	}
	sarifLocation struct {
		ID               int           `json:"id,omitempty"`
		PhysicalLocation sarifPhysical `json:"physicalLocation"`
		Message          *sarifText    `json:"message,omitempty"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI         string     `json:"uri,omitempty"`
		URIBaseID   string     `json:"uriBaseId,omitempty"`
		Description *sarifText `json:"description,omitempty"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
		EndLine     int `json:"endLine,omitempty"`
		EndColumn   int `json:"endColumn,omitempty"`
	}
	sarifCodeFlow struct {
		ThreadFlows []sarifThreadFlow `json:"threadFlows"`
	}
	sarifThreadFlow struct {
		Locations []sarifFlowLocation `json:"locations"`
	}
	sarifFlowLocation struct {
		Location   sarifLocation `json:"location"`
		Importance string        `json:"importance"`
	}
)

// cvss is the score that code-scanning services sort by; the middle of the
// CVSS 3.1 band of each severity.
var cvss = map[audit.Severity]string{audit.Low: "3.0", audit.Medium: "5.5", audit.High: "8.0", audit.Critical: "9.5"}

var sarifLevel = map[string]string{"error": "error", "warning": "warning", "hint": "note"}

var sarifPrecision = map[audit.Confidence]string{audit.Possible: "medium", audit.Likely: "high", audit.Certain: "very-high"}

// sarifRank orders results (SARIF 2.1.0, 3.27.25: 0 to 100), by severity and
// then, by what is taken off for doubt, by how sure a finding is here.
var (
	sarifRank  = map[audit.Severity]float64{audit.Low: 25, audit.Medium: 50, audit.High: 75, audit.Critical: 100}
	sarifDoubt = map[audit.Confidence]float64{audit.Possible: 15, audit.Likely: 5}
)

// SARIF writes findings as SARIF 2.1.0.
func SARIF(w io.Writer, r *AuditReport, _ Screen) error {
	run := sarifRun{
		Tool: sarifTool{sarifDriver{
			Name: "dewar", Version: r.Version, InformationURI: "https://github.com/dewar-security/dewar", Rules: []sarifRule{},
		}},
		ColumnKind:         "unicodeCodePoints",
		OriginalURIBaseIDs: map[string]sarifArtifact{"PROJECT": {Description: &sarifText{Text: "The root of the audited project."}}},
		Invocations:        []sarifInvocation{{ExecutionSuccessful: true}},
		Results:            []sarifResult{},
	}
	index := map[string]int{}
	rule := func(k *audit.Rule) int {
		i, ok := index[k.ID]
		if !ok {
			i = len(run.Tool.Driver.Rules)
			index[k.ID] = i
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, ruleSARIF(k))
		}
		return i
	}
	for _, k := range r.Rules {
		rule(k)
	}
	for _, list := range [][]audit.Finding{r.Findings, r.Suppressed} {
		for _, f := range list {
			// A result has one place to be shown at and one flow to it, and a
			// service follows each result: flows stay apart.
			each := []audit.Finding{f}
			if len(f.Trace) > 0 && f.Places != nil {
				each = f.Places
			}
			for _, f := range each {
				run.Results = append(run.Results, resultSARIF(f, rule(f.Rule), r.Source))
			}
		}
	}
	note := func(level string, notes []Note, prefix string, located bool) {
		for _, n := range notes {
			k := sarifNotification{Level: level, Message: sarifText{Text: prefix + n.Place + ": " + n.Text}}
			if located && n.File != "" {
				l := sarifLocation{PhysicalLocation: sarifPhysical{ArtifactLocation: artifact(n.File)}}
				if n.Line > 0 {
					l.PhysicalLocation.Region = &sarifRegion{StartLine: n.Line}
				}
				k.Locations = []sarifLocation{l}
			}
			run.Invocations[0].ToolExecutionNotifications = append(run.Invocations[0].ToolExecutionNotifications, k)
		}
	}
	note("warning", r.NotUnderstood, "not understood: ", true)
	note("warning", r.Skipped, "skipped: ", true)
	note("error", r.Unproven, "rule could not look: ", false)
	return encode(w, sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{run},
	})
}

func ruleSARIF(k *audit.Rule) sarifRule {
	var tags []string
	for _, c := range k.CWE {
		tags = append(tags, fmt.Sprintf("external/cwe/cwe-%03d", c))
	}
	tags = append(tags, "security", string(k.Control))
	for _, o := range k.OWASP {
		tags = append(tags, "OWASP-"+o)
	}
	for _, a := range k.ASVS {
		tags = append(tags, "ASVS-5.0-"+a)
	}
	help := k.Why + "\n\n" + k.Fix
	markdown := k.Why + "\n\n**Fix**: " + k.Fix
	if k.Bad != "" {
		markdown += "\n\nBad:\n```\n" + strings.TrimSpace(k.Bad) + "\n```\nGood:\n```\n" + strings.TrimSpace(k.Good) + "\n```"
	}
	return sarifRule{
		ID: k.ID, Name: strings.ReplaceAll(k.ID, "-", ""),
		ShortDescription: sarifText{Text: k.Title}, FullDescription: sarifText{Text: k.Why}, Help: sarifText{help, markdown},
		DefaultConfiguration: sarifDefault{sarifLevel[level(k.Severity)]},
		Properties:           sarifProperties{tags, sarifPrecision[k.Confidence], cvss[k.Severity]},
	}
}

// maxLinks is how many of a cause's places a message links to.
const maxLinks = 20

// linkText escapes what would end the text of a link (SARIF 2.1.0, 3.11.6).
var linkText = strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`)

func resultSARIF(f audit.Finding, ruleIndex int, source func(string) []byte) sarifResult {
	res := sarifResult{
		RuleID: f.Rule.ID, RuleIndex: ruleIndex, Level: sarifLevel[level(f.Rule.Severity)], Rank: sarifRank[f.Rule.Severity] - sarifDoubt[f.Sure()],
		Message:    sarifText{Text: f.Message + ". " + cmp.Or(f.Fix, f.Rule.Fix)},
		Locations:  []sarifLocation{location(f.Span, "")},
		Fixes:      fixesSARIF(f, source),
		Properties: sarifSureness{f.Sure().String(), f.Rule.Severity.String()},
	}
	if f.Fingerprint != "" {
		res.PartialFingerprints = map[string]string{"dewar/v1": f.Fingerprint}
	}
	for i, s := range f.Related {
		l := location(s.Span, s.Note)
		l.ID = i + 1
		res.RelatedLocations = append(res.RelatedLocations, l)
	}
	// What the message links to is shown with it.
	others := f.Others()
	for i, o := range others {
		l := location(o.Span, o.Message)
		l.ID = len(res.RelatedLocations) + 1
		res.RelatedLocations = append(res.RelatedLocations, l)
		if i < maxLinks {
			res.Message.Text += fmt.Sprintf("\nAlso at [%s](%d)", linkText.Replace(spanText(o.Span)), l.ID)
		}
	}
	if left := len(others) - maxLinks; left > 0 {
		res.Message.Text += fmt.Sprintf("\nAnd at %d more places", left)
	}
	if len(f.Trace) > 0 {
		var flow sarifThreadFlow
		for i, s := range f.Trace {
			// A viewer that folds a long path keeps its two ends.
			importance := "important"
			if i == 0 || i == len(f.Trace)-1 {
				importance = "essential"
			}
			flow.Locations = append(flow.Locations, sarifFlowLocation{location(s.Span, s.Note), importance})
		}
		res.CodeFlows = []sarifCodeFlow{{[]sarifThreadFlow{flow}}}
	}
	if f.Suppressed != nil {
		kind := "inSource"
		if f.Suppressed.Kind == "baseline" {
			kind = "external"
		}
		res.Suppressions = []sarifSuppression{{kind, f.Suppressed.Reason}}
	}
	return res
}

func location(s audit.Span, note string) sarifLocation {
	l := sarifLocation{PhysicalLocation: sarifPhysical{ArtifactLocation: artifact(s.File)}}
	if s.Line > 0 {
		l.PhysicalLocation.Region = &sarifRegion{s.Line, s.Column, s.EndLine, s.EndColumn}
	}
	if note != "" {
		l.Message = &sarifText{Text: note}
	}
	return l
}

// artifact percent-encodes a file name: a space or a # in it is no URI, and
// what stands before a colon would be a scheme (RFC 3986, 4.2).
func artifact(file string) sarifArtifact {
	return sarifArtifact{URI: (&url.URL{Path: file}).String(), URIBaseID: "PROJECT"}
}
