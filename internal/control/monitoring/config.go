package monitoring

import "github.com/dewar-security/dewar/internal/guard"

// Config is the [monitoring] section of dewar.toml: the security log. It can
// be sent elsewhere, but it cannot be switched off.
type Config struct {
	Log      string     `toml:"log" reload:"restart" default:"stderr" jsonschema_description:"Where the security log goes: a file, \"stdout\" or \"stderr\". One JSON object per line."`
	MaxSize  guard.Size `toml:"max-size" reload:"restart" default:"100 MB" jsonschema_description:"Size at which the log file is rotated; 0 leaves rotation to something else."`
	Keep     int        `toml:"keep" reload:"restart" default:"10" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"Rotated files kept."`
	Requests bool       `toml:"requests" default:"true" jsonschema_description:"Log every request, not only those a layer had something to say about."`
	Redact   []string   `toml:"redact" reload:"restart" jsonschema_description:"Further names of parameters and headers whose values never reach the log."`
}
