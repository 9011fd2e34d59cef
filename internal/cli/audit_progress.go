package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/term"

	"github.com/dewar-security/dewar/internal/audit"
)

// auditProgress is the line on a terminal that says how far an audit is. What tells
// it only notes numbers; the line is drawn ten times a second at most.
type auditProgress struct {
	mu           sync.Mutex
	phase        audit.Phase
	done, total  int
	interpreting bool // while it runs, the rules that do not need it go on

	stop, ended chan struct{}
}

// wantsProgress reports whether a person watches standard error.
func (a *app) wantsProgress() bool {
	f, ok := a.stderr.(*os.File)
	if !ok || !term.IsTerminal(f.Fd()) {
		return false
	}
	for _, kv := range a.environ {
		if v, ok := strings.CutPrefix(kv, "CI="); ok && v != "" && v != "false" || kv == "TERM=dumb" {
			return false
		}
	}
	return true
}

// startProgress draws on w at every tick until finish is called.
func startProgress(w io.Writer, ticks <-chan time.Time) *auditProgress {
	p := &auditProgress{stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		last := ""
		for {
			select {
			case <-p.stop:
				if last != "" {
					io.WriteString(w, "\r\x1b[2K")
				}
				return
			case <-ticks:
				if s := p.String(); s != last {
					io.WriteString(w, "\r\x1b[2K"+s)
					last = s
				}
			}
		}
	}()
	return p
}

// tell is an [audit.Options.Progress].
func (p *auditProgress) tell(phase audit.Phase, done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if phase == audit.Interpreting {
		p.interpreting = total == 0
		return
	}
	if phase > p.phase || phase == p.phase && done > p.done {
		p.phase, p.done, p.total = phase, done, total
	}
}

// String returns the line, which fits every terminal.
func (p *auditProgress) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	unit := "files"
	if p.phase == audit.Judging {
		unit = "rules"
	}
	s := fmt.Sprintf("%s %d/%d %s", p.phase, p.done, p.total, unit)
	if p.interpreting {
		s = fmt.Sprintf("%s, %s", audit.Interpreting, s)
	}
	return s
}

// finish clears the line. Nothing is drawn after it.
func (p *auditProgress) finish() {
	close(p.stop)
	<-p.ended
}
