package deployment

import "github.com/dewar-security/dewar/internal/guard"

// Config is the [deployment] section of dewar.toml: how the app is served.
type Config struct {
	Listen        []string       `toml:"listen" reload:"restart" default:":443" staging:":443" development:"127.0.0.1:8443" jsonschema_description:"Addresses that serve HTTPS (HTTP/1.1 and HTTP/2)."`
	ListenHTTP    []string       `toml:"listen-http" reload:"restart" default:":80" staging:":80" development:"127.0.0.1:8080" jsonschema_description:"Addresses that redirect HTTP to HTTPS; with tls = \"off\" they serve the app."`
	TLS           string         `toml:"tls" reload:"restart" default:"files" development:"local" jsonschema:"enum=files,enum=acme,enum=local,enum=off" jsonschema_description:"Where the certificate comes from: files (certificate and key), acme (an authority such as Let's Encrypt; see deployment.acme), local (a certificate authority made once on this machine, development only), off (something in front ends TLS; needs trusted-proxies)."`
	Certificate   string         `toml:"certificate" jsonschema_description:"File with the PEM certificate chain; read again when it changes."`
	Key           string         `toml:"key" jsonschema_description:"File with the PEM private key."`
	PublicPort    int            `toml:"public-port" jsonschema:"minimum=0,maximum=65535" jsonschema_description:"Port in redirects to HTTPS when it is not the one listened on (port forwarding, containers)."`
	AllowedHosts  []string       `toml:"allowed-hosts" jsonschema_description:"Host names the app answers to; .example.com covers example.com and every name below. Empty: the names of the certificate."`
	TrustedProxy  []string       `toml:"trusted-proxies" jsonschema_description:"Addresses or networks of the proxies in front whose X-Forwarded-For, -Proto and -Host are believed. Empty: nobody is believed."`
	TrustedHeader []string       `toml:"trusted-headers" jsonschema_description:"Headers in which the trusted proxies say who the user is or where the app is mounted, such as X-Auth-Request-User or X-Forwarded-Prefix. From anyone else, and when not listed, they are taken away."`
	HTTPS         guard.Mode     `toml:"https" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the https layer: redirect and allowed hosts."`
	Request       guard.Mode     `toml:"request" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the request layer, which refuses what two parsers could read differently."`
	Methods       []string       `toml:"methods" default:"GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS" jsonschema_description:"Methods that reach the app."`
	Override      bool           `toml:"method-override" jsonschema_description:"Let a POST with X-HTTP-Method-Override (or X-HTTP-Method, X-Method-Override) that names one of these methods reach the app with it. Otherwise the field is taken away: layers and overrides would judge another method than the app runs."`
	Workers       int            `toml:"workers" reload:"app" jsonschema:"minimum=0,maximum=512" jsonschema_description:"gunicorn worker processes; 0 means one more than twice the CPUs this process may use, at most 12."`
	Threads       int            `toml:"threads" reload:"app" default:"4" jsonschema:"minimum=1,maximum=256" jsonschema_description:"Threads per worker."`
	Timeout       guard.Duration `toml:"timeout" reload:"app" default:"30s" jsonschema_description:"How long the app may take to begin its answer, and a worker may be stuck before gunicorn replaces it."`
	HeaderTimeout guard.Duration `toml:"header-timeout" reload:"connection" default:"10s" jsonschema_description:"How long a client may take to send a request's head."`
	BodyTimeout   guard.Duration `toml:"body-timeout" reload:"connection" default:"60s" jsonschema_description:"How long a client may take to send a request's body; longer as long as it comes at 4 KiB a second or more."`
	IdleTimeout   guard.Duration `toml:"idle-timeout" reload:"connection" default:"75s" jsonschema_description:"How long an idle keep-alive connection stays open."`
	StreamTimeout guard.Duration `toml:"stream-timeout" reload:"app" default:"10m" jsonschema_description:"How long an answer that has begun, an event stream or a WebSocket may be silent."`
	Grace         guard.Duration `toml:"grace" reload:"app" default:"20s" jsonschema_description:"How long running requests may take to finish at shutdown."`
	Drain         guard.Duration `toml:"drain" default:"0s" jsonschema_description:"How long after SIGTERM new connections are still taken, while /readyz on the console says that the guard stops: time for a load balancer to turn away."`
	MaxConns      int            `toml:"max-connections" reload:"restart" default:"4096" jsonschema:"minimum=1,maximum=1000000" jsonschema_description:"Client connections at once on each listener. When there are as many, the one that has sent no request for longest makes place; otherwise more wait in the kernel's queue."`
	MaxPerClient  int            `toml:"max-connections-per-client" reload:"restart" default:"512" jsonschema:"minimum=0,maximum=1000000" jsonschema_description:"Client connections at once from one address (IPv6: one /64) on each listener; 0 means no limit. Trusted proxies and this machine are exempt."`
	MaxHeader     guard.Size     `toml:"max-header" reload:"app" default:"32 KiB" jsonschema_description:"Largest request head."`
	MaxRequests   int            `toml:"max-requests" reload:"app" default:"10000" jsonschema:"minimum=0" jsonschema_description:"Requests after which a worker is replaced, with a tenth of jitter; 0 means never."`
	Preload       bool           `toml:"preload" reload:"app" jsonschema_description:"Import the app once before the workers fork (gunicorn --preload)."`
	Watch         bool           `toml:"watch" default:"true" jsonschema_description:"Read settings, certificates and rule files again when they change, without a restart. SIGHUP and dewar reload always do. What cannot be used is reported and changes nothing."`
	Console       string         `toml:"console" reload:"restart" default:"127.0.0.1:9180" jsonschema_description:"Private address for health, readiness, metrics and the checklist; must be loopback or unix:/path. Empty switches it off."`

	// Mutual TLS, and what nodes share.

	ClientCA        string     `toml:"client-ca" file:"project" jsonschema_description:"PEM file of the authority that signs client certificates (mutual TLS). Clients are asked for one; a wrong one is refused in the handshake, and which paths want one client-certificates says."`
	ClientCertPaths []string   `toml:"client-certificates" jsonschema_description:"Paths that want a client certificate, as patterns: /admin/**, /**. The app reads it in Client-Cert (RFC 9440) and X-Client-Cert-Sha256."`
	ClientCert      guard.Mode `toml:"client-certificate" default:"enforce" jsonschema:"enum=enforce,enum=observe,enum=off" jsonschema_description:"Mode of the client-certificate layer."`
	TicketSecret    string     `toml:"ticket-secret" jsonschema_description:"What the keys of TLS session tickets follow from, so that several nodes resume each other's sessions: env:NAME or file:/path. Empty: random keys. They change every eight hours in both cases."`

	// What else is spoken at the door.

	HTTP3         bool     `toml:"http3" reload:"restart" jsonschema_description:"Serve HTTP/3 as well, on the UDP ports beside listen. Early data (0-RTT) is off."`
	ProxyProtocol []string `toml:"proxy-protocol" jsonschema_description:"Addresses or networks of load balancers that speak the PROXY protocol (version 1 or 2) to listen and listen-http. From them it must come; what it says is the client's address. From others it is refused."`

	ACME ACME `toml:"acme" jsonschema_description:"Certificates from an authority that speaks ACME, with tls = \"acme\"."`
}
