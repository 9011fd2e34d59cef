package payload

import "strings"

// shellInert says why a text is nothing to a shell, of Unix or Windows, bare,
// in quotes or as a whole line: where a command could begin (at the start,
// behind a separator, in a substitution) stands a word that is none, no
// variable is put in, and nothing goes to or comes from a path.
func shellInert(s string) bool {
	if len(s) > 1 && s[0] == '-' && (isAlpha(s[1]) || s[1] == '-' && len(s) > 2 && isAlpha(s[2])) {
		return false // an option of the app's own command
	}
	for i := range len(s) {
		next := byte(' ')
		if i+1 < len(s) {
			next = s[i+1]
		}
		switch s[i] {
		case '$':
			if (isAlpha(next) || strings.IndexByte("{('\"@*#?!-_$", next) >= 0) && !smallVariable(s[i+1:]) {
				return false
			}
		case '%':
			if end := strings.IndexByte(s[i+1:], '%'); end > 1 && end < 40 && strings.Trim(s[i+1:i+1+end], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:~=,-") == "" && isAlpha(next) {
				return false
			}
		case '<', '>':
			if next == '(' || next == s[i] || next == '&' {
				continue
			}
			if word := shellWord(s[i+1:]); strings.ContainsAny(word, `/.~$\*?[%!:`) && strings.IndexByte(word, '@') <= 0 && strings.Trim(word, ".,!?)0123456789") != "" {
				return false
			}
		case '{':
			// {id,-a} is a command and its argument.
			inner, _, ok := strings.Cut(s[i+1:min(len(s), i+256)], "}")
			if first, _, list := strings.Cut(inner, ","); ok && list && !strings.ContainsAny(inner, " \t\n") && knownCommand(first) {
				return false
			}
		}
		// Of several separators the last one: what is behind it is looked at.
		if strings.IndexByte(";|&\n\r`(", s[i]) >= 0 && strings.IndexByte(";|&\n\r(", next) < 0 && !noCommand(s[i+1:], s[i]) {
			return false
		}
	}
	return noCommand(s, 0)
}

// smallVariable says that behind a dollar sign stands a name in small letters:
// what the environment holds is in capitals, and what a shell does not know is
// nothing.
func smallVariable(s string) bool {
	s, braced := strings.CutPrefix(s, "{")
	i := 0
	for i < len(s) && ('a' <= s[i] && s[i] <= 'z' || i > 0 && (s[i] == '_' || s[i] == '.' || isDigit(s[i]))) {
		i++
	}
	if braced {
		return i > 0 && i < len(s) && s[i] == '}'
	}
	return i > 1 && (i == len(s) || !isAlpha(s[i]) && s[i] != ':' && s[i] != '(' && s[i] != '[')
}

// shellWord returns the word at the beginning of s.
func shellWord(s string) string {
	s = strings.TrimLeft(s, " \t")
	if i := strings.IndexAny(s, " \t\r\n;|&<>()`"); i >= 0 {
		s = s[:i]
	}
	return s
}

// noCommand says that no command stands at the beginning of s, behind the
// separator given; 0 is the beginning of the text, where nothing has ended the
// app's own command. There, and in lines and brackets, prose may begin with the
// name of a program.
func noCommand(s string, behind byte) bool {
	for range 16 {
		s = strings.TrimLeft(s, " \t;|&({!@\n\r")
		word := shellWord(s)
		if to := s[len(word):]; to != "" && strings.IndexByte("<>", to[0]) >= 0 && strings.Trim(word, "0123456789") == "" {
			// Where the output goes may stand before the command.
			to = strings.TrimLeft(to, "<>&")
			s = strings.TrimLeft(to, " \t")
			s = s[len(shellWord(s)):]
			continue
		}
		if word == "" {
			return true
		}
		rest := s[len(word):]
		if shellKeywords[strings.ToLower(word)] {
			s = rest
			continue
		}
		if name, _, ok := strings.Cut(word, "="); ok && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" {
			s = rest // X=1 before a command
			continue
		}
		if strings.Contains(word, "://") {
			return true
		}
		bare := strings.TrimRight(word, ".,:!?)]}\"'")
		if word[0] == '$' && smallVariable(word[1:]) {
			s = rest // nothing, so what stands behind it is run
			continue
		}
		if strings.ContainsAny(bare, "$\\~%`") || strings.IndexByte(bare, '{') >= 0 && (strings.IndexByte(bare, ',') > 0 || strings.Contains(bare, "..")) {
			return false // the name of a program may be written so
		}
		if i := strings.LastIndexByte(bare, '/'); i >= 0 {
			// A program in a folder; and/or is none.
			return i > 0 && bare[0] != '/' && bare[0] != '.' && !strings.ContainsAny(bare, "*?[") && !knownCommand(bare[i+1:])
		}
		if strings.ContainsAny(bare, "*?[") {
			// Names of files here, where a shell looks for no program.
			return !knownCommand(strings.Trim(bare, "*?[]_"))
		}
		if strings.ContainsAny(bare, "'\"^{") {
			// A shell takes quotes out, that of Windows also carets.
			if knownCommand(strings.NewReplacer("'", "", `"`, "", "^", "", "{", "", "}", "").Replace(bare)) {
				return false
			}
			return true
		}
		if !knownCommand(bare) {
			return true
		}
		if behind == ';' || behind == '|' || behind == '&' || behind == '`' {
			return false
		}
		name := strings.ToLower(bare)
		if argumentLike(name, rest) || argumentLike(name, " "+strings.TrimLeft(rest, " \t,.:!?)")) {
			return false
		}
		if carriers[name] {
			s, behind = rest, max(behind, ' ') // runs what stands behind it
			continue
		}
		if i := strings.IndexAny(rest, "\n\r;|&`)"); i >= 0 {
			rest = rest[:i]
		}
		// Its arguments are words of a sentence: it finds no file of such a
		// name, and has no option that says what to do.
		return behind == 0 && !endless[name] && strings.TrimSpace(rest) != "" || plainWords(rest, 3) && !endless[name] || plainWords(rest, 5)
	}
	return false
}

// plainWords says that a text begins with so many words of letters, perhaps
// with the punctuation of a sentence.
func plainWords(s string, n int) bool {
	for w := range strings.FieldsSeq(s) {
		if w = strings.Trim(w, ".,:!?'\"()"); w == "" {
			continue
		}
		for i := range len(w) {
			if !isAlpha(w[i]) && w[i] < 0x80 && !(i > 0 && (w[i] == '\'' || w[i] == '-')) {
				return false
			}
		}
		if n--; n == 0 {
			return true
		}
	}
	return false
}

func knownCommand(word string) bool {
	l := strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(word, ".exe"), ".EXE"))
	if shellCommands[l] || moreCommands[l] {
		return true
	}
	// A program has its version or its maker in its name: python3.11,
	// nc.traditional, gcc-12.
	stem, _, _ := strings.Cut(l, ".")
	stem = strings.TrimRight(stem, "-0123456789")
	return len(stem) > 1 && len(stem) < len(l) && (len(stem) > 2 || strings.IndexByte(l, '.') > 0) && (shellCommands[stem] || moreCommands[stem])
}

// shellKeywords stand before commands.
var shellKeywords = set("if", "then", "else", "elif", "do", "while", "until", "coproc", "function", "call")

// carriers are commands that run what stands behind them.
var carriers = set("time", "command", "builtin", "exec", "eval", "sudo", "nohup", "nice", "env", "xargs", "start", "busybox", "doas", "stdbuf", "setsid", "timeout", "trap")

// endless are commands that need no argument, and do not mind any.
var endless = set("reboot", "shutdown", "halt", "poweroff", "kill", "killall", "pkill", "env", "printenv", "ps", "init", "id", "whoami", "uname", "ls", "dir", "w", "netstat", "ifconfig", "ipconfig", "systeminfo", "tasklist", "hostname", "sh", "bash", "zsh", "ksh", "dash", "csh", "cmd", "powershell", "pwsh", "python", "python3", "perl", "ruby", "php", "node", "lua", "sleep", "ping", "curl", "wget", "nc", "ncat", "telnet", "ssh", "eval", "exec", "source", "rm", "dd", "mv", "cp", "touch", "mkdir", "chmod", "chown")

// moreCommands are programs that prose seldom begins with, and that a text is
// not let go for.
var moreCommands = set("ansible", "builtin", "command", "doas", "setsid", "start", "trap", "arch", "ash", "aws", "az", "bc", "blkid", "brew", "bun", "bzip2", "cargo", "cksum", "cmp", "code", "comm", "composer", "cpio", "cpulimit", "cscript", "csplit", "cupsfilter", "dc", "deno", "dmesg", "dmidecode", "dmsetup", "dnf", "dos2unix", "dotnet", "dpkg", "ed", "emacs", "esxcli", "ex", "expand", "expect", "facter", "fdisk", "fgrep", "fish", "flock", "fmt", "fold", "free", "g++", "gcloud", "gdb", "gem", "gh", "ghc", "gimp", "go", "gobuster", "gradle", "groups", "helm", "hg", "htop", "iconv", "iex", "iftop", "ionice", "iptables", "irb", "irm", "iwr", "java", "javac", "jjs", "join", "journalctl", "jq", "jshell", "julia", "kubeadm", "ld", "ldconfig", "ldd", "ln", "locate", "logname", "logsave", "look", "lsattr", "lsb_release", "lsblk", "lsmod", "ltrace", "lwp-download", "lynx", "man", "mawk", "md5sum", "mkfifo", "mknod", "mvn", "mysqladmin", "mysqldump", "nawk", "ngrep", "nft", "nice", "nix", "npm", "npx", "nsenter", "octave", "openvpn", "paste", "patch", "pdb", "pgrep", "pico", "pip3", "pkexec", "pkill", "pnpm", "podman", "poweroff", "pr", "psftp", "ptx", "pushd", "py", "pypy", "rake", "rar", "readelf", "rg", "rlogin", "rpm", "rsync", "rustc", "rvim", "screen", "service", "sha1sum", "sha256sum", "shuf", "snap", "socket", "sqlite", "sqlplus", "stdbuf", "strace", "svn", "systemctl", "tcsh", "terraform", "tmux", "top", "tr", "truncate", "tsc", "ul", "umount", "unexpand", "unlink", "unxz", "uptime", "userdel", "usermod", "users", "uv", "view", "vimdiff", "virsh", "wall", "watch", "wc", "whois", "winrm", "wish", "wscript", "xterm", "xz", "yarn", "yes", "zcat", "zless", "zypper",
	"assoc", "at", "attrib", "bcdedit", "cacls", "chdir", "chkdsk", "cipher", "clip", "cls", "convert", "diskpart", "driverquery", "echo", "erase", "expand", "fc", "findstr", "for", "format", "forfiles", "fsutil", "ftype", "gpresult", "gpupdate", "icacls", "md", "mklink", "msiexec", "nbtstat", "pathping", "popd", "qprocess", "query", "quser", "rd", "recover", "replace", "rmdir", "robocopy", "runas", "setx", "subst", "takeown", "taskkill", "tree", "tskill", "typeperf", "vssadmin", "wevtutil", "where", "xcopy",
	"gc", "gci", "gcm", "gi", "gl", "gm", "gp", "gps", "gsv", "gv", "gwmi", "icm", "ii", "ipmo", "ni", "nv", "ri", "rnp", "sal", "saps", "sasv", "sl", "spsv", "start-process", "invoke-expression", "invoke-webrequest", "get-content", "get-childitem", "new-object", "write-host", "write-output", "remove-item")
