package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/catalog"
	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/gateway"
	"github.com/dewar-security/dewar/internal/policy"
)

// policyFile is the route map that a project may keep beside its settings.
const policyFile = "dewar.policy.json"

// policyPatience is how long a start waits for the audit of the project.
const policyPatience = time.Minute

// sourcePolicy is what the source says of the app's requests, for the layers:
// from a file of the project, or from an audit at every start. Without it the
// guard works as for an app that nobody has read, and says so.
type sourcePolicy struct {
	done chan struct{} // closed when the first reading has ended

	mu   sync.Mutex
	p    *policy.Policy
	from string // "dewar.policy.json", "the audit"
	why  error  // why there is none

	file    string // where it is read from, "" if not from a file
	audited bool   // it comes from an audit
	reading int    // counts audits: only the last one's result counts
}

// current returns the policy, or nil.
func (s *sourcePolicy) current() *policy.Policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

// startPolicy begins to read the policy. A file that cannot be used is an
// error; an audit goes on beside the start.
func (a *app) startPolicy(ctx context.Context, dir string, cfg *catalog.Config) (*sourcePolicy, error) {
	s := &sourcePolicy{done: make(chan struct{})}
	name := cfg.App.Policy
	switch name {
	case "off":
		s.why = errors.New("app.policy is off")
		close(s.done)
		return s, nil
	case "", "auto":
		p, err := readPolicy(dir)
		if p != nil || err != nil {
			s.p, s.from, s.file = p, policyFile, filepath.Join(dir, policyFile)
			close(s.done)
			return s, err
		}
		if cfg.App.Upstream != "" && !hasPython(dir) {
			s.why = errors.New("the app's source is not here")
			close(s.done)
			return s, nil
		}
		s.audited = true
		go func() {
			defer close(s.done)
			s.audit(ctx, a, dir)
		}()
		return s, nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	s.file, s.from = name, cfg.App.Policy
	close(s.done)
	var err error
	if s.p, err = decodePolicy(name); err != nil {
		return nil, fmt.Errorf("app.policy: %w", err)
	}
	return s, nil
}

// decodePolicy reads a route map from a file.
func decodePolicy(name string) (*policy.Policy, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := policy.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// outdate takes the policy away before new code of the app answers: what it
// says of the old code, such as that a field is a number, may be wrong. back
// gives it back if the new code did not come to answer.
func (s *sourcePolicy) outdate() (back func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == "" && !s.audited {
		return func() {}
	}
	p, why, reading := s.p, s.why, s.reading
	s.p, s.why = nil, errors.New("the code is new and not read yet")
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.reading == reading && s.p == nil {
			s.p, s.why = p, why
		}
	}
}

// renew reads the policy again, from where it came.
func (s *sourcePolicy) renew(ctx context.Context, a *app, dir string) {
	switch {
	case s.audited:
		s.audit(ctx, a, dir)
	case s.file != "":
		p, err := decodePolicy(s.file)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.p, s.why = p, err
	}
}

// hasPython says whether a folder holds a Python file.
func hasPython(dir string) bool {
	for _, pattern := range []string{"*.py", "*/*.py"} {
		if m, _ := filepath.Glob(filepath.Join(dir, pattern)); len(m) > 0 {
			return true
		}
	}
	return false
}

// audit reads the project and takes its route map.
func (s *sourcePolicy) audit(ctx context.Context, a *app, dir string) {
	s.mu.Lock()
	s.reading++
	reading := s.reading
	s.mu.Unlock()
	data, err := a.routeMap(ctx, dir)
	var p *policy.Policy
	if err == nil {
		p, err = policy.Decode(bytes.NewReader(data))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading != reading {
		return // one that began later knows better
	}
	if err != nil {
		s.why = fmt.Errorf("the project could not be read: %w", err)
		return
	}
	s.p, s.from, s.why = p, "the audit", nil
}

// routeMap returns the route map of a project. A process of its own reads it:
// an audit needs memory that a guard shall not keep.
func (a *app) routeMap(ctx context.Context, dir string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, policyPatience)
	defer cancel()
	if a.self == "" {
		var out bytes.Buffer
		b := &app{stdin: a.stdin, stdout: &out, stderr: a.stderr, environ: a.environ, configFile: a.configFile, profile: a.profile, color: "never"}
		root := b.root()
		root.SetArgs([]string{"routes", "--json", "--patches", dir})
		err := root.ExecuteContext(ctx)
		return out.Bytes(), err
	}
	args := []string{"routes", "--json", "--patches"}
	if a.configFile != "" {
		args = append(args, "--config", a.configFile)
	}
	cmd := exec.CommandContext(ctx, a.self, append(args, "--", dir)...)
	cmd.Env = a.environ
	cmd.WaitDelay = time.Second
	out, errs := &head{most: maxRouteMap}, &head{most: 64 << 10}
	cmd.Stdout, cmd.Stderr = out, errs
	err := cmd.Run()
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		err = fmt.Errorf("not read within %v", policyPatience)
	case err != nil:
		err = fmt.Errorf("%w: %s", err, cmp.Or(shorten(errs.String(), 300), "no reason given"))
	case out.cut:
		err = fmt.Errorf("its route map has more than %d MiB", maxRouteMap>>20)
	}
	return out.Bytes(), err
}

// maxRouteMap bounds what the audit's process may print, in bytes.
const maxRouteMap = 64 << 20

// head keeps the beginning of what is written to it.
type head struct {
	bytes.Buffer
	most int
	cut  bool // there was more
}

// Write implements [io.Writer].
func (h *head) Write(p []byte) (int, error) {
	n := len(p)
	if room := h.most - h.Len(); n > room {
		h.cut = true
		p = p[:room]
	}
	h.Buffer.Write(p)
	return n, nil
}

// wait blocks until the policy is there, or cannot be had, and says so.
func (s *sourcePolicy) wait(ctx context.Context, out *progress) {
	select {
	case <-s.done:
	case <-time.After(policyPatience):
	case <-ctx.Done():
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.p != nil:
		text := fmt.Sprintf("%d routes from %s", len(s.p.Routes()), s.from)
		if n := len(s.p.Gaps()); n > 0 {
			text += fmt.Sprintf("; %d places were not understood, so there may be more", n)
		}
		out.step(gateway.Step{Kind: gateway.StepDone, Name: "route map", Text: text})
	case s.why != nil:
		out.step(gateway.Step{Kind: gateway.StepNote, Name: "route map", Text: "none: " + s.why.Error()})
	default:
		out.step(gateway.Step{Kind: gateway.StepWarning, Name: "route map", Text: "not ready after " + policyPatience.String() + "; the guard starts without it"})
	}
}

// evidence says whether the layers know the app's routes.
func (s *sourcePolicy) evidence(now time.Time) evidence.Evidence {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := evidence.Evidence{Control: "injection", Face: evidence.Guard, Check: "route-map", Time: now}
	if s.p == nil {
		e.Outcome, e.Summary = evidence.Error, "the guard does not know the app's routes"
		if s.why != nil {
			e.Summary += ": " + s.why.Error()
		}
		return e
	}
	e.Outcome, e.Partial = evidence.Pass, true
	e.Summary = fmt.Sprintf("the guard knows %d routes and what they read, from %s", len(s.p.Routes()), s.from)
	return e
}
