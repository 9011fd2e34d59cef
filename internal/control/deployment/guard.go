package deployment

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/dewar-security/dewar/internal/guard"
)

var layers = []*guard.Spec{requestSpec, clientSpec, httpsSpec, clientCertSpec}

var preflights = []*guard.Preflight{
	{
		Name:      "not-development-server",
		Control:   "deployment",
		Does:      "Refuses to start in front of Flask's development server or another one made for trying things out.",
		Why:       "Werkzeug's server parses HTTP leniently, has no limits, and comes with the reloader and the debugger one setting away (its own documentation: do not use it in production).",
		Fix:       "Let dewar run start gunicorn, or start the upstream with a production server.",
		RelaxedIn: []guard.Profile{guard.Development},
		Check:     checkDevelopmentServer,
	},
	{
		Name:    "production-server",
		Control: "deployment",
		Does:    "Says when the app's server is a version with known request smuggling.",
		Why:     "gunicorn before 22.0 takes Transfer-Encoding values it does not understand for no encoding (CVE-2024-1135, CVE-2024-6827) and turns X_Forwarded_For into X-Forwarded-For.",
		Fix:     "pip install --upgrade 'gunicorn>=23'",
		// The guard stands in front and closes the known ways: a warning.
		RelaxedIn: []guard.Profile{guard.Production, guard.Staging, guard.Development},
		Check:     checkProductionServer,
	},
	{
		Name:    "worker-class",
		Control: "deployment",
		Does:    "Refuses to start where a library has replaced threads under workers that need them.",
		Why:     "gevent.monkey.patch_all() and eventlet.monkey_patch() put green threads in place of Python's: a worker of gunicorn that waits in real ones (gthread, which dewar run chooses) takes connections and never answers.",
		Fix:     "Put worker_class = \"gevent\" (or \"eventlet\") into gunicorn.conf.py beside the app: dewar run takes it from there. Or patch only under such a worker.",
		Check:   checkWorkerClass,
	},
}

func checkWorkerClass(f guard.Facts) (string, error) {
	switch {
	case !f.Known:
		return "", unknown(f.Why)
	case f.Patched == "" || strings.Contains(strings.ToLower(f.Worker), f.Patched):
		return "", nil
	case f.Worker == "":
		return "", fmt.Errorf("%s has replaced Python's threads, and the server does not say what its workers are", f.Patched)
	}
	return fmt.Sprintf("%s has replaced Python's threads, and the workers are of class %s: requests would hang", f.Patched, f.Worker), nil
}

// developmentServers are the first words of the Server fields that servers
// not made for production send.
var developmentServers = []string{"werkzeug", "wsgiserver", "wsgiref", "simplehttp", "basehttp"}

// server returns the app's server, or why it cannot be told.
func server(f guard.Facts) (name, version string, err error) {
	switch {
	case f.Server != "": // a hook in a worker said so, or an upstream's Server field
	case !f.Known:
		return "", "", unknown(f.Why)
	default:
		return "", "", errors.New("the app does not say which server runs it")
	}
	name, _, _ = strings.Cut(f.Server, " ")
	name, version, _ = strings.Cut(name, "/")
	if version == "" {
		_, version, _ = strings.Cut(f.Server, " ")
	}
	return strings.ToLower(name), version, nil
}

func unknown(why string) error {
	if why == "" {
		why = "nothing is known about the running app"
	}
	return errors.New(why)
}

func checkDevelopmentServer(f guard.Facts) (string, error) {
	name, _, err := server(f)
	if err != nil {
		return "", err
	}
	for _, d := range developmentServers {
		if name == d {
			return fmt.Sprintf("the app is served by %s, a development server", f.Server), nil
		}
	}
	return "", nil
}

func checkProductionServer(f guard.Facts) (string, error) {
	name, version, err := server(f)
	if err != nil {
		return "", err
	}
	if name != "gunicorn" {
		return "", fmt.Errorf("nothing is known about the request smuggling of %s", f.Server)
	}
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return "", fmt.Errorf("the version in %q cannot be read", f.Server)
	}
	if n < 22 {
		return fmt.Sprintf("gunicorn %s has known request smuggling", version), nil
	}
	return "", nil
}

// layerProblems reports settings that the layers cannot work with.
func (c *Config) layerProblems() []guard.Problem {
	var out []guard.Problem
	add := func(key string, err error) {
		if err != nil {
			out = append(out, guard.Problem{Key: key, Message: err.Error()})
		}
	}
	for _, m := range c.Methods {
		add("methods", checkMethod(m))
	}
	for _, s := range c.TrustedProxy {
		_, err := parseProxy(s)
		add("trusted-proxies", err)
	}
	for _, s := range c.TrustedHeader {
		add("trusted-headers", checkTrustedHeader(s))
	}
	for _, s := range c.AllowedHosts {
		_, err := parseAllowedHost(s)
		add("allowed-hosts", err)
	}
	return out
}
