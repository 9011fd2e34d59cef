package abuse

import (
	"fmt"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
)

// flowRules look at what the app waits for.
var flowRules = []*audit.Rule{
	{
		ID: "DW-ABUSE-001", Control: "abuse",
		Title:    "A request to another server waits without end",
		Why:      "requests, urllib and smtplib wait for ever unless told: when the other side hangs, every worker does soon, and the site is down.",
		Fix:      "Give a timeout in seconds: requests.get(url, timeout=10).",
		Severity: audit.Low, Confidence: audit.Likely, CWE: []int{400, 1088}, OWASP: []string{"A06:2025"}, ASVS: []string{"13.2.6"},
		Bad:   "import requests\n\ndef rates():\n    return requests.get(\"https://rates.example.com/today\").json()\n",
		Good:  "import requests\n\ndef rates():\n    return requests.get(\"https://rates.example.com/today\", timeout=10).json()\n",
		Check: missingTimeout,
	},
}

// timeoutAt are the calls that wait without end unless told otherwise, and
// the index of their argument for the timeout, -1 where it has a name only.
var timeoutAt = map[string]int{
	"urllib.request.urlopen": 2, "urllib.request.OpenerDirector.open": 2,
	"http.client.HTTPConnection": 2, "http.client.HTTPSConnection": 2,
	"smtplib.SMTP": 3, "smtplib.SMTP_SSL": 5, "ftplib.FTP": 4, "ftplib.FTP_TLS": -1, "imaplib.IMAP4": 2, "imaplib.IMAP4_SSL": -1, "poplib.POP3": 2,
	"socket.create_connection": 1, "telnetlib.Telnet": 2,
}

// timeoutOf returns the index of the timeout among the arguments of a call.
func timeoutOf(path string) (index int, ok bool) {
	if i, ok := timeoutAt[path]; ok {
		return i, true
	}
	module, method, _ := strings.Cut(path, ".")
	if module != "requests" {
		return 0, false
	}
	switch method[strings.LastIndexByte(method, '.')+1:] {
	case "get", "post", "put", "delete", "patch", "head", "options", "request", "send":
		return -1, true
	}
	return 0, false
}

func missingTimeout(p *audit.Pass) {
	p.Judge(p.Hits("use", "request"), func(h *pyflow.Hit) (audit.Finding, bool) {
		index, ok := timeoutOf(h.Path)
		if !ok {
			return audit.Finding{}, false
		}
		v, given := h.Arg(index, "timeout")
		if !given {
			v, given = h.Keywords["**"].Field("timeout")
		}
		if given && v.Kind != pyflow.None || !given && h.Unpacked {
			return audit.Finding{}, false
		}
		f, call := p.HitCall(h)
		if call == 0 {
			return audit.Finding{}, false
		}
		out := audit.Finding{Message: fmt.Sprintf("%s has no timeout", h.Path)}
		if given {
			out.Message = fmt.Sprintf("the timeout of %s is None", h.Path)
		}
		out.Edits = p.FixTimeout(f, call)
		return out, true
	})
}
