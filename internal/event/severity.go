package event

import "fmt"

var severityNames = map[Severity]string{Debug: "debug", Info: "info", Warn: "warn", High: "high", Critical: "critical"}

// String returns the level's name.
func (s Severity) String() string {
	if n, ok := severityNames[s]; ok {
		return n
	}
	return fmt.Sprintf("severity(%d)", s)
}

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Severity) UnmarshalText(b []byte) error {
	for k, n := range severityNames {
		if n == string(b) {
			*s = k
			return nil
		}
	}
	return fmt.Errorf("%q is no severity: debug, info, warn, high or critical", b)
}

// Name documents one value of [Event.Name].
type Name struct {
	Name string
	// Means says when the event is written.
	Means string
	// Level is its usual severity.
	Level Severity
}

// Names lists the values of [Event.Name]. They are those of the OWASP Logging
// Vocabulary where it has one; malicious_csrf continues one of its families,
// http_request is what it leaves to access logs, and the dewar_ names are our
// own. A test of the catalogue holds every layer to this list.
var Names = []Name{
	{"http_request", "A request was answered and no layer had anything to say.", Info},
	{"sys_startup", "The guard starts.", Info},
	{"sys_shutdown", "The guard stopped.", Info},
	{"sys_restart", "The app's server was started again.", High},
	{"dewar_store_gone", "The store that nodes share does not answer: limits are each node's own, bans and ended sessions those known before.", High},
	{"dewar_store_back", "The shared store answers again.", Info},
	{"dewar_store_damaged", "The store's file was damaged and set aside: what is said to be lost is.", Critical},
	{"dewar_reload", "The guard read its settings again: what came of it is in the event.", Info},
	{"dewar_operate", "The operator asked a layer to do something: ban an address, end a session.", Info},
	{"dewar_upgrade", "Another process of the guard took over, or could not.", Info},
	{"sys_crash", "A part of the guard, or the app, failed while it served a request.", Critical},
	{"excess_rate_limit_exceeded", "A client asked for more than its limit.", Warn},
	{"dewar_banned", "A client that is on the ban list, or in a list of the operator's, was turned away.", Info},
	{"dewar_ban", "A client was banned for a while: it attacked again and again.", High},
	{"authn_login_fail", "A login, a second factor or a reset code was refused, or a token was not valid.", Warn},
	{"authn_login_successafterfail", "A login succeeded after some that failed: attribute retries says how many.", Info},
	{"authn_login_fail_max", "A client failed to log in more often than it may.", Warn},
	{"authn_login_lock", "An account is held for browsers that it does not know: too many passwords were tried.", Warn},
	{"malicious_password_spraying", "One password is tried on many accounts.", Critical},
	{"malicious_credential_stuffing", "Many pairs of names and passwords are tried, and few are right.", Critical},
	{"dewar_challenge", "A browser was asked to do some work before it may log in.", Info},
	{"dewar_password_breached", "A password that was chosen, or that logged in, is in a list of known ones.", Warn},
	{"input_validation_fail", "A request was not what it must be: path, host, headers, body.", Warn},
	{"authn_logout", "A session was left: what had its cookie has nothing any more.", Info},
	{"session_created", "A session began without a login, from a remember token.", Info},
	{"session_renewed", "A session of the same account got a new cookie: its rights or its id changed. Attributes: account, handle, before (the handle that ended).", Info},
	{"malicious_session", "A session cookie was forged, planted, or is used where it was not opened. Of one that was somebody's the attributes say account and handle.", High},
	{"dewar_degraded", "A part of the guard does less than it should: reason and detail say what.", High},
	{"upload_complete", "Files arrived, were looked into, and are handed to the app: attributes files and types say how many and what they are.", Info},
	{"upload_validation", "A file was not what it must be.", Warn},
	{"upload_stored", "A refused file is kept in quarantine: attribute quarantine is its id.", Info},
	{"upload_delete", "The operator deleted a file in quarantine.", Info},
	{"authn_login_success", "Somebody logged in, at the app or at the provider, and has a session now.", Info},
	{"authn_token_reuse", "What may be used once was used again: an answer of the provider, a logout token.", High},
	{"session_expired", "A session ended: by the user, the provider or an operator, or because its time was over.", Info},
	{"session_use_after_expire", "The cookie of a session that has ended was shown again: a copy, perhaps.", Warn},
	{"authz_fail", "A client asked for what it has no right to: without the login, the role, the scope or the certificate that a path wants.", Warn},
	{"malicious_csrf", "A request that changes state came from another site.", Warn},
	{"malicious_direct_reference", "Somebody asked for what nobody may see: debugger, repository, backup.", Warn},
	{"malicious_script", "A page held a script that copies the shape of one of the app's own: it was not allowed to run.", High},
	{"dewar_csp_report", "A browser reported what a Content-Security-Policy stopped, or would stop, for the first time.", Info},
	{"malicious_attack_tool", "A request carries the mark of an attack tool.", High},
	{"dewar_would_change", "A layer that only observes would have changed an answer.", Info},
	{"dewar_gap", "Events were lost: attribute lost says how many.", Critical},
}
