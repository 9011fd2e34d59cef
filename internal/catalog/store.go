package catalog

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store/redisstore"
)

// Store is the [store] section: one node keeps what outlives a request in a
// file, several share a Redis or Valkey.
type Store struct {
	Kind             string         `toml:"kind" reload:"restart" default:"auto" jsonschema:"enum=auto,enum=memory,enum=file,enum=redis" jsonschema_description:"auto (redis when store.url is set, else file), memory (a restart forgets bans, sessions and lockouts), file (one SQLite file: they outlive a restart) or redis (Redis 6.2 or Valkey: several nodes share them, and limits)."`
	Path             string         `toml:"path" reload:"restart" jsonschema_description:"Folder of the file, for this user only. Empty: a folder for the project below $STATE_DIRECTORY or below dewar in the user's data folder."`
	URL              string         `toml:"url" reload:"restart" jsonschema_description:"Where Redis or Valkey is: redis://host:6379/0, rediss:// with TLS, unix:/run/redis.sock, redis+sentinel://host1:26379,host2:26379/master-name/0, redis+cluster://host1:6379,host2:6379; rediss+sentinel and rediss+cluster with TLS. No password: it has a setting of its own."`
	Username         string         `toml:"username" reload:"restart" jsonschema_description:"User of the server's access control list. Empty: the default user."`
	Password         string         `toml:"password" reload:"restart" jsonschema_description:"Its password: env:NAME or file:/path."`
	SentinelPassword string         `toml:"sentinel-password" reload:"restart" jsonschema_description:"Password of the Sentinels: env:NAME or file:/path."`
	Secret           string         `toml:"secret" reload:"restart" jsonschema_description:"What keys and values are hidden from the server with, the same on all nodes, of 32 characters at least: env:NAME or file:/path. Needed for redis. session.keys and authn.secrets follow from it when they are not set."`
	CA               string         `toml:"ca" file:"project" reload:"restart" jsonschema_description:"PEM file of the authority that the server's certificate is verified by. Empty: the system's."`
	Certificate      string         `toml:"certificate" file:"project" reload:"restart" jsonschema_description:"PEM file of the certificate to show to the server, where it wants one."`
	Key              string         `toml:"key" file:"project" reload:"restart" jsonschema_description:"PEM file of its key."`
	Prefix           string         `toml:"prefix" reload:"restart" default:"dewar" jsonschema_description:"What all keys in the server begin with: another one for each site that shares it."`
	Timeout          guard.Duration `toml:"timeout" reload:"restart" default:"20ms" jsonschema_description:"How long a request waits for the server. After three that waited for nothing, none does until the server answers again."`
	Nodes            int            `toml:"nodes" reload:"restart" default:"1" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"How many guards share the server: while it is gone each allows its share of the limits."`
}

var storePrefix = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,40}$`)

// Problems reports settings that cannot be used.
func (s *Store) Problems() []guard.Problem {
	var out []guard.Problem
	bad := func(key, format string, args ...any) {
		out = append(out, guard.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	if s.URL != "" {
		if _, err := redisstore.ParseURL(s.URL); err != nil {
			bad("url", "%v", err)
		}
	}
	switch {
	case s.Kind == "redis" && s.URL == "":
		bad("url", "kind is redis, and it is not said where: write redis://host:6379")
	case s.URL != "" && (s.Kind == "memory" || s.Kind == "file"):
		bad("kind", "%q uses no server, and store.url names one: leave one of them out", s.Kind)
	}
	if s.URL != "" && s.Secret == "" {
		bad("secret", "store.url is set, and nothing to hide keys and values from the server with: write env:NAME or file:/path, the same secret on all nodes")
	}
	if s.URL == "" && s.Kind != "redis" {
		for key, v := range map[string]string{"username": s.Username, "password": s.Password, "sentinel-password": s.SentinelPassword, "secret": s.Secret, "ca": s.CA, "certificate": s.Certificate, "key": s.Key} {
			if v != "" {
				bad(key, "it is for Redis, and store.url is not set")
			}
		}
		if s.Nodes > 1 {
			bad("nodes", "%d nodes share nothing without store.url: their limits and bans would each be their own", s.Nodes)
		}
	}
	for key, v := range map[string]string{"password": s.Password, "sentinel-password": s.SentinelPassword, "secret": s.Secret} {
		if v != "" && !strings.HasPrefix(v, "env:") && !strings.HasPrefix(v, "file:") {
			bad(key, "a secret does not stand in the settings: write env:NAME or file:/path")
		}
	}
	if (s.Certificate == "") != (s.Key == "") {
		bad("certificate", "certificate and key belong together")
	}
	if s.Prefix != "" && !storePrefix.MatchString(s.Prefix) {
		bad("prefix", "%q: letters, digits, . _ : and - only, 40 at most", s.Prefix)
	}
	if s.Timeout < 0 || s.Timeout > guard.Duration(5e9) {
		bad("timeout", "%s: a request cannot wait that long; 5s at most", s.Timeout)
	}
	if s.Nodes < 0 {
		bad("nodes", "%d is no number of nodes", s.Nodes)
	}
	return out
}
