package waf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/debuglog"
	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/types"
)

// Ids of the engine's own rules, as in Coraza's recommended configuration.
const (
	ruleBodyError      = 200002
	ruleMultipart      = 200003
	ruleArgumentsQuery = 200004
	ruleArgumentsBody  = 200005
	ruleURI            = 200009
	// rulesFlask is where the ids of our own attack rules begin, in the
	// range that no published rule set uses.
	rulesFlask = 22000100
)

// flaskRules find what the Core Rule Set misses of attacks on Flask apps, at
// paranoia level 1 and with a critical score: 22000110 Jinja expressions and
// statements that reach for Python objects or compute (CWE-1336), 22000120
// Python introspection (CWE-95). A template with plain names passes.
const flaskRules = `
SecRule REQUEST_FILENAME|REQUEST_COOKIES|REQUEST_HEADERS:User-Agent|REQUEST_HEADERS:Referer|ARGS_NAMES|ARGS|XML:/* "@rx \{[{%][^}]{0,300}(?:__[a-z]+__|\\x5f|\|\s*(?:attr|format|map|select|reject)\s*\(|\b(?:request|config|session|g|cycler|joiner|namespace|lipsum|self|url_for|get_flashed_messages|application)\s*[.\[|(])|\{\{\s*(?:config|self|request)\s*\}\}|\{\{\s*['\x22]?\d+['\x22]?\s*[*+/%-]{1,2}\s*['\x22]?\d+['\x22]?\s*\}\}" \
  "id:22000110,phase:2,block,capture,t:none,t:urlDecodeUni,\
  msg:'Jinja template injection',logdata:'Matched Data: %{TX.0} found within %{MATCHED_VAR_NAME}',\
  tag:'attack-ssti',severity:'CRITICAL',setvar:'tx.inbound_anomaly_score_pl1=+%{tx.critical_anomaly_score}'"
SecRule REQUEST_FILENAME|REQUEST_COOKIES|REQUEST_HEADERS:User-Agent|REQUEST_HEADERS:Referer|ARGS_NAMES|ARGS|XML:/* "@rx __(?:import|builtins|globals|subclasses|mro|bases?|getattribute|reduce(?:_ex)?)__\s*[(.\['\x22]|__class__\s*\.\s*__|\[\s*['\x22]__(?:class|globals|builtins|import)__" \
  "id:22000120,phase:2,block,capture,t:none,t:urlDecodeUni,\
  msg:'Python code injection',logdata:'Matched Data: %{TX.0} found within %{MATCHED_VAR_NAME}',\
  tag:'attack-injection-python',severity:'CRITICAL',setvar:'tx.inbound_anomaly_score_pl1=+%{tx.critical_anomaly_score}'"
`

// requestDirectives is the configuration for requests. It follows Coraza's
// recommended one; body processors are chosen in [Engine.readBody] instead of
// by rules.
func requestDirectives(cfg Config) string {
	// The body has been cut to MaxInspect before; Coraza's own limits are
	// out of the way so that it neither rejects nor spools to disk.
	limit := 2*cfg.MaxInspect + 1<<20
	return fmt.Sprintf(`
SecRuleEngine On
SecAuditEngine Off
SecRxPreFilter Off
SecRequestBodyAccess On
SecRequestBodyLimit %d
SecRequestBodyInMemoryLimit %d
SecRequestBodyLimitAction Reject
SecRequestBodyJsonDepthLimit 128
SecArgumentsLimit %d
SecResponseBodyAccess Off
SecDefaultAction "phase:1,log,noauditlog,pass"
SecDefaultAction "phase:2,log,noauditlog,pass"
SecRule URI_PARSE_ERROR "@eq 1" "id:200009,phase:1,t:none,log,deny,status:400,msg:'URI failed to parse'"
SecRule REQBODY_ERROR "!@eq 0" "id:200002,phase:2,t:none,log,deny,status:400,msg:'The request body is malformed',logdata:'%%{reqbody_error_msg}',severity:2"
SecRule MULTIPART_STRICT_ERROR "!@eq 0" "id:200003,phase:2,t:none,log,deny,status:400,msg:'The multipart body failed strict validation'"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:200004,phase:1,t:none,log,deny,status:400,msg:'Too many query parameters'"
SecRule ARGUMENTS_LIMIT_REACHED "@eq 1" "id:200005,phase:2,t:none,log,deny,status:400,msg:'Too many values in the body'"
SecAction "id:900000,phase:1,pass,t:none,nolog,\
  setvar:tx.crs_setup_version=4250,\
  setvar:tx.blocking_paranoia_level=%[4]d,\
  setvar:tx.detection_paranoia_level=%[4]d,\
  setvar:tx.inbound_anomaly_score_threshold=%[5]d,\
  setvar:tx.crs_skip_response_analysis=1"
Include @owasp_crs/REQUEST-901-INITIALIZATION.conf
Include @owasp_crs/REQUEST-905-COMMON-EXCEPTIONS.conf
Include @owasp_crs/REQUEST-911-METHOD-ENFORCEMENT.conf
Include @owasp_crs/REQUEST-913-SCANNER-DETECTION.conf
Include @owasp_crs/REQUEST-920-PROTOCOL-ENFORCEMENT.conf
Include @owasp_crs/REQUEST-921-PROTOCOL-ATTACK.conf
Include @owasp_crs/REQUEST-922-MULTIPART-ATTACK.conf
Include @owasp_crs/REQUEST-930-APPLICATION-ATTACK-LFI.conf
Include @owasp_crs/REQUEST-931-APPLICATION-ATTACK-RFI.conf
Include @owasp_crs/REQUEST-932-APPLICATION-ATTACK-RCE.conf
Include @owasp_crs/REQUEST-933-APPLICATION-ATTACK-PHP.conf
Include @owasp_crs/REQUEST-934-APPLICATION-ATTACK-GENERIC.conf
Include @owasp_crs/REQUEST-941-APPLICATION-ATTACK-XSS.conf
Include @owasp_crs/REQUEST-942-APPLICATION-ATTACK-SQLI.conf
Include @owasp_crs/REQUEST-943-APPLICATION-ATTACK-SESSION-FIXATION.conf
Include @owasp_crs/REQUEST-944-APPLICATION-ATTACK-JAVA.conf
%[6]s
Include @owasp_crs/REQUEST-949-BLOCKING-EVALUATION.conf
Include @owasp_crs/REQUEST-999-COMMON-EXCEPTIONS-AFTER.conf
SecRuleRemoveById 911100
SecRuleRemoveById 920420
SecRuleRemoveById 920350
`, limit, limit, cfg.MaxArguments, cfg.Paranoia, cfg.InboundThreshold, flaskRules)
}

// responseDirectives is the configuration for responses.
func responseDirectives(cfg Config) string {
	return fmt.Sprintf(`
SecRuleEngine On
SecAuditEngine Off
SecRxPreFilter Off
SecRequestBodyAccess Off
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html text/xml application/json application/xml
SecResponseBodyLimit %d
SecResponseBodyLimitAction ProcessPartial
SecDefaultAction "phase:3,log,noauditlog,pass"
SecDefaultAction "phase:4,log,noauditlog,pass"
SecAction "id:900000,phase:1,pass,t:none,nolog,\
  setvar:tx.crs_setup_version=4250,\
  setvar:tx.blocking_paranoia_level=%[2]d,\
  setvar:tx.detection_paranoia_level=%[2]d,\
  setvar:tx.outbound_anomaly_score_threshold=%[3]d"
Include @owasp_crs/REQUEST-901-INITIALIZATION.conf
Include @owasp_crs/RESPONSE-950-DATA-LEAKAGES.conf
Include @owasp_crs/RESPONSE-951-DATA-LEAKAGES-SQL.conf
Include @owasp_crs/RESPONSE-952-DATA-LEAKAGES-JAVA.conf
Include @owasp_crs/RESPONSE-953-DATA-LEAKAGES-PHP.conf
Include @owasp_crs/RESPONSE-954-DATA-LEAKAGES-IIS.conf
Include @owasp_crs/RESPONSE-955-WEB-SHELLS.conf
Include @owasp_crs/RESPONSE-956-DATA-LEAKAGES-RUBY.conf
Include @owasp_crs/RESPONSE-959-BLOCKING-EVALUATION.conf
`, cfg.MaxResponse+1, cfg.Paranoia, cfg.OutboundThreshold)
}

// rulesFS serves the compiled-in rule set under "@owasp_crs" and everything
// else from disk, where a user's rule files and their data files are.
type rulesFS struct{}

func (rulesFS) Open(name string) (fs.File, error) {
	if strings.Contains(name, "@owasp_crs") {
		return coreruleset.FS.Open(name)
	}
	return os.Open(name)
}

func (rulesFS) ReadFile(name string) ([]byte, error) {
	if strings.Contains(name, "@owasp_crs") {
		return fs.ReadFile(coreruleset.FS, name)
	}
	return os.ReadFile(name)
}

// load compiles directives and rule files.
func load(directives string, files []string, observe func(types.RuleMetadata)) (coraza.WAF, error) {
	for i, f := range files {
		if b, err := os.ReadFile(f); err != nil {
			return nil, fmt.Errorf("waf: rule file: %w", err)
		} else if len(strings.TrimSpace(string(b))) == 0 {
			return nil, fmt.Errorf("waf: rule file %s is empty", f)
		}
		if abs, err := filepath.Abs(f); err == nil {
			files[i] = abs
		}
	}
	trace := &directiveTrace{}
	cfg := coraza.NewWAFConfig().
		WithRootFS(rulesFS{}).
		WithDebugLogger(debuglog.Noop()).
		WithDirectives(directives)
	if len(files) > 0 {
		cfg = cfg.WithDebugLogger(trace.logger())
		for _, f := range files {
			cfg = cfg.WithDirectivesFromFile(f)
		}
	}
	if observe != nil {
		cfg = experimental.WAFConfigWithRuleObserver(cfg, observe)
	}
	w, err := coraza.NewWAF(cfg)
	if err != nil {
		if where := trace.find(files); where != "" {
			return nil, fmt.Errorf("waf: %s: %w", where, innermost(err))
		}
		return nil, fmt.Errorf("waf: %w", err)
	}
	if _, ok := w.NewTransaction().(transaction); !ok {
		return nil, errors.New("waf: this version of Coraza does not offer what the engine needs from a transaction")
	}
	trace.stop()
	return w, nil
}

// innermost drops Coraza's wrapping ("invalid WAF config from file: failed to
// parse string: …"): the place is said better by us.
func innermost(err error) error {
	s := err.Error()
	for _, prefix := range []string{"invalid WAF config from file: ", "failed to parse string: ", "invalid WAF config from string: "} {
		s = strings.TrimPrefix(s, prefix)
	}
	return errors.New(s)
}

// directiveTrace notes the directive that Coraza is parsing. Its errors do not
// say where they happened, its debug log names every directive first.
type directiveTrace struct {
	done bool
	last string // the directive being parsed
	seen map[string]int
}

func (t *directiveTrace) logger() debuglog.Logger {
	t.seen = map[string]int{}
	return debuglog.DefaultWithPrinterFactory(func(io.Writer) debuglog.Printer {
		return func(_ debuglog.Level, message, fields string) {
			if t.done || message != "Parsing directive" {
				return
			}
			t.last = fields
			t.seen[fields]++
		}
	}).WithLevel(debuglog.LevelDebug)
}

// stop ends the tracing: transactions log through the same logger.
func (t *directiveTrace) stop() { t.done = true; t.seen = nil }

// find returns "file:line" of the directive that was parsed last.
func (t *directiveTrace) find(files []string) string {
	if t.last == "" {
		return ""
	}
	want, nth := t.last, t.seen[t.last]
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for _, d := range splitDirectives(string(b)) {
			if fmt.Sprintf("line=%q", d.text) != want {
				continue
			}
			if nth--; nth == 0 {
				return fmt.Sprintf("%s:%d", f, d.line)
			}
		}
	}
	return ""
}

type directive struct {
	text string
	line int // of its first character, from 1
}

// splitDirectives splits SecLang text as Coraza does: comments and empty lines
// dropped, lines ending in a backslash joined.
func splitDirectives(s string) []directive {
	var out []directive
	var b strings.Builder
	start := 0
	for i, line := range strings.Split(s, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if b.Len() == 0 {
			start = i + 1
		}
		if rest, ok := strings.CutSuffix(line, `\`); ok {
			b.WriteString(rest)
			continue
		}
		b.WriteString(line)
		out = append(out, directive{b.String(), start})
		b.Reset()
	}
	return out
}
