package secrets

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/flask"
	"github.com/dewar-security/dewar/internal/pyflow"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// flowRules look at the values that the program computes with.
var flowRules = []*audit.Rule{
	{
		ID: "DW-SECRETS-010", Control: "secrets",
		Title:    "A broken hash is used",
		Why:      "Two texts with the same MD5 or SHA-1 are made in minutes to days, and either is tried billions of times a second: signatures, tokens and passwords that rest on it fall.",
		Fix:      "Use hashlib.sha256 or hashlib.blake2b; for passwords argon2, scrypt or werkzeug.security.generate_password_hash. Where nothing depends on it, say so: hashlib.md5(x, usedforsecurity=False).",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{328, 327}, OWASP: []string{"A04:2025"}, ASVS: []string{"11.4.1"},
		Bad:   "import hashlib\nfrom flask import Flask, request\napp = Flask(__name__)\n\n@app.get(\"/sign\")\ndef sign():\n    return hashlib.md5(request.args[\"order\"].encode()).hexdigest()\n",
		Good:  "import hashlib\nfrom flask import Flask, request\napp = Flask(__name__)\n\n@app.get(\"/sign\")\ndef sign():\n    return hashlib.sha256(request.args[\"order\"].encode()).hexdigest()\n",
		Check: func(p *audit.Pass) { weakHash(p, true) },
	},
	{
		ID: "DW-SECRETS-018", Control: "secrets",
		Title:    "A broken hash is used, for what is not seen",
		Why:      "Nothing here says that anything rests on it; if a signature, a token or a check of integrity does, it can be forged.",
		Fix:      "Use hashlib.sha256 or hashlib.blake2b; where nothing depends on it, say so: hashlib.md5(x, usedforsecurity=False).",
		Severity: audit.Low, Confidence: audit.Possible, CWE: []int{328, 327}, OWASP: []string{"A04:2025"}, ASVS: []string{"11.4.1"},
		Bad:   "import hashlib\nfrom flask import Flask\napp = Flask(__name__)\n\n@app.get(\"/\")\ndef index():\n    return hashlib.md5(open(\"notes\", \"rb\").read()).hexdigest()\n",
		Good:  "import hashlib\nfrom flask import Flask\napp = Flask(__name__)\n\n@app.get(\"/\")\ndef index():\n    return hashlib.md5(open(\"notes\", \"rb\").read(), usedforsecurity=False).hexdigest()\n",
		Check: func(p *audit.Pass) { weakHash(p, false) },
	},
	{
		ID: "DW-SECRETS-011", Control: "secrets",
		Title:    "A broken cipher or mode is used",
		Why:      "DES and RC4 are broken by trying or by statistics, 64-bit blocks repeat after some gigabytes, and ECB shows which blocks are alike.",
		Fix:      "Use AES in GCM mode, or cryptography.fernet.Fernet, which chooses for you.",
		Severity: audit.High, Confidence: audit.Certain, CWE: []int{327}, OWASP: []string{"A04:2025"}, ASVS: []string{"11.3.1", "11.3.2"},
		Bad:   "import os\nfrom Crypto.Cipher import AES\n\ndef seal(text):\n    return AES.new(os.environ[\"SEAL_KEY\"].encode(), AES.MODE_ECB).encrypt(text)\n",
		Good:  "import os\nfrom Crypto.Cipher import AES\n\ndef seal(text):\n    return AES.new(os.environ[\"SEAL_KEY\"].encode(), AES.MODE_GCM).encrypt_and_digest(text)\n",
		Check: weakCipher,
	},
	{
		ID: "DW-SECRETS-012", Control: "secrets",
		Title:    "A secret is drawn from a generator that can be predicted",
		Why:      "Python's random is meant for games: who has seen some of its numbers computes the others, and with them the next password, token or session id.",
		Fix:      "Use secrets.token_urlsafe(), secrets.choice() or secrets.randbelow().",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{330, 338}, OWASP: []string{"A04:2025"}, ASVS: []string{"11.5.1"},
		Bad:   "import random\nfrom flask import Flask\napp = Flask(__name__)\n\n@app.post(\"/reset\")\ndef reset():\n    token = str(random.randint(100000, 999999))\n    return {\"sent\": len(token)}\n",
		Good:  "import secrets\nfrom flask import Flask\napp = Flask(__name__)\n\n@app.post(\"/reset\")\ndef reset():\n    token = secrets.token_urlsafe()\n    return {\"sent\": len(token)}\n",
		Check: func(p *audit.Pass) { weakRandom(p, true) },
	},
	{
		ID: "DW-SECRETS-013", Control: "secrets",
		Title:    "A generator that can be predicted is used",
		Why:      "Nothing here says that the number is a secret; if it names a file, a voucher or an account, others can compute it.",
		Fix:      "Use the module secrets, or secrets.SystemRandom() for the same methods, wherever guessing the number would help somebody.",
		Severity: audit.Low, Confidence: audit.Possible, CWE: []int{330, 338}, OWASP: []string{"A04:2025"}, ASVS: []string{"11.5.1"},
		Bad:   "import random\nfrom flask import Flask\napp = Flask(__name__)\n\n@app.get(\"/number\")\ndef number():\n    return {\"ticket\": random.randint(1, 9999)}\n",
		Good:  "import secrets\nfrom flask import Flask\napp = Flask(__name__)\n\n@app.get(\"/number\")\ndef number():\n    return {\"ticket\": secrets.randbelow(9999)}\n",
		Check: func(p *audit.Pass) { weakRandom(p, false) },
	},
	{
		ID: "DW-SECRETS-014", Control: "secrets",
		Title:    "A password or key stands in the source",
		Why:      "Whoever can read the repository, today or in its history, connects, signs and decrypts as the app does.",
		Fix:      "Read it from the environment without a default, os.environ[\"DB_PASSWORD\"], and change it: it is known now.",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{798, 259, 321}, OWASP: []string{"A04:2025"}, ASVS: []string{"13.3.1"},
		Bad:   "import psycopg2\n\ndef connect():\n    return psycopg2.connect(host=\"db\", user=\"shop\", password=\"Bootsverleih7\")\n",
		Good:  "import os\nimport psycopg2\n\ndef connect():\n    return psycopg2.connect(host=\"db\", user=\"shop\", password=os.environ[\"DB_PASSWORD\"])\n",
		Check: literalCredentials,
	},
	{
		ID: "DW-SECRETS-015", Control: "secrets",
		Title:    "What a visitor types is compared with a password in the source",
		Why:      "Everybody who can read the code knows the password, nobody can change it without a release, and it is the same for all.",
		Fix:      "Keep a password hash for each user and ask check_password_hash(), or compare with a key from the environment by hmac.compare_digest().",
		Severity: audit.High, Confidence: audit.Likely, CWE: []int{798, 259}, OWASP: []string{"A07:2025"}, ASVS: []string{"13.3.1"},
		Bad:   "from flask import Flask, request\napp = Flask(__name__)\n\n@app.post(\"/staff\")\ndef staff():\n    if request.form[\"password\"] == \"Bootsverleih7\":\n        return \"welcome\"\n    return \"no\", 403\n",
		Good:  "import os\nfrom flask import Flask, request\nfrom werkzeug.security import check_password_hash\napp = Flask(__name__)\n\n@app.post(\"/staff\")\ndef staff():\n    if check_password_hash(os.environ[\"STAFF_HASH\"], request.form[\"password\"]):\n        return \"welcome\"\n    return \"no\", 403\n",
		Check: literalComparison,
	},
	{
		ID: "DW-SECRETS-017", Control: "secrets",
		Title:    "A key is too short",
		Why:      "RSA and DSA keys of 1024 bits are within reach of a well-funded attacker, shorter ones of anybody.",
		Fix:      "Use at least 2048 bits for RSA, 3072 for what has to last, or Ed25519.",
		Severity: audit.Medium, Confidence: audit.Certain, CWE: []int{326}, OWASP: []string{"A04:2025"}, ASVS: []string{"11.2.3"},
		Bad:   "from cryptography.hazmat.primitives.asymmetric import rsa\n\ndef new_key():\n    return rsa.generate_private_key(public_exponent=65537, key_size=1024)\n",
		Good:  "from cryptography.hazmat.primitives.asymmetric import rsa\n\ndef new_key():\n    return rsa.generate_private_key(public_exponent=65537, key_size=3072)\n",
		Check: shortKey,
	},
	{
		ID: "DW-SECRETS-019", Control: "secrets",
		Title:    "An initialisation vector or salt is always the same",
		Why:      "With the same vector equal beginnings look alike, and two messages in a stream mode give away both; with the same salt one table of guesses serves for every password.",
		Fix:      "Draw it anew each time, os.urandom(16), and keep it beside what it was used for; it need not be secret.",
		Severity: audit.Medium, Confidence: audit.Likely, CWE: []int{329, 1204, 760}, OWASP: []string{"A04:2025"}, ASVS: []string{"11.3.4", "11.4.2"},
		Bad:   "import os\nfrom cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes\n\ndef seal(text):\n    cipher = Cipher(algorithms.AES(os.environb[b\"SEAL_KEY\"]), modes.CBC(b\"\\x00\" * 16))\n    return cipher.encryptor().update(text)\n",
		Good:  "import os\nfrom cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes\n\ndef seal(text):\n    vector = os.urandom(16)\n    cipher = Cipher(algorithms.AES(os.environb[b\"SEAL_KEY\"]), modes.CBC(vector))\n    return vector + cipher.encryptor().update(text)\n",
		Check: constantVector,
	},
}

// ---- hashes ----

// brokenHashes are the hashes that collisions are known for, in lower case
// and without punctuation.
var brokenHashes = map[string]string{
	"md2": "MD2", "md4": "MD4", "md5": "MD5", "sha": "SHA-1", "sha1": "SHA-1", "ripemd": "RIPEMD", "ripemd128": "RIPEMD-128", "md5sha1": "MD5",
}

// hashNames returns the hashes that a hit may compute.
func hashNames(h *pyflow.Hit) []string {
	parts := strings.Split(h.Path, ".")
	last := parts[len(parts)-1]
	var v pyflow.Value
	switch {
	case h.Path == "hashlib.new":
		v, _ = h.Arg(0, "name")
	case h.Path == "hashlib.file_digest":
		v, _ = h.Arg(1, "digest")
	case h.Path == "hmac.digest":
		v, _ = h.Arg(2, "digest")
	case strings.HasPrefix(h.Path, "hmac."), strings.HasSuffix(h.Path, ".HMAC.new"):
		v, _ = h.Arg(2, "digestmod")
	case last == "new" && len(parts) > 1: // Crypto.Hash.MD5.new
		return []string{normalHash(parts[len(parts)-2])}
	default:
		return []string{normalHash(last)}
	}
	var out []string
	v.Each(func(v pyflow.Value) {
		if s, ok := v.Const(); ok {
			out = append(out, normalHash(s))
		} else if v.Type != "" { // a function or a module: hashlib.md5, Crypto.Hash.MD5
			out = append(out, normalHash(v.Type[strings.LastIndexByte(v.Type, '.')+1:]))
		}
	})
	return out
}

func normalHash(s string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s))
}

// harmlessHash are the words that name a use in which a collision gives
// nothing away.
var harmlessHash = []string{"etag", "etags", "cache", "cached", "gravatar", "avatar", "checksum", "checksums", "crc", "bucket", "shard", "partition", "color", "colour", "dedupe", "dedup", "identicon", "md5sum", "pwned", "hibp"}

// weakHash reports broken hashes: those on which something is seen to rest, or
// the others.
func weakHash(p *audit.Pass, rests bool) {
	p.Judge(p.Hits("use", "hash"), func(h *pyflow.Hit) (audit.Finding, bool) {
		if v, ok := h.Keywords["usedforsecurity"]; ok && audit.MayBe(v, false) {
			return audit.Finding{}, false
		}
		name := ""
		for _, n := range hashNames(h) {
			if brokenHashes[n] != "" {
				name = brokenHashes[n]
			}
		}
		if name == "" {
			return audit.Finding{}, false
		}
		keyed := strings.HasPrefix(h.Path, "hmac.") || strings.HasSuffix(h.Path, ".HMAC.new")
		if keyed && name == "SHA-1" {
			return audit.Finding{}, false // no weakness of HMAC-SHA-1 is known
		}
		f, _ := p.At(h)
		if f == nil {
			return audit.Finding{}, false
		}
		purpose := f.Purpose(h.At.Start, h.At.End)
		_, call := p.HitCall(h)
		if call == 0 {
			return audit.Finding{}, false // an import
		}
		secret := slices.ContainsFunc(purpose, audit.SecretName)
		if hasWord(purpose, harmlessHash...) && (!secret || hasWord(purpose, "pwned", "hibp")) || !secret && hasWord(purpose, "email") && hasWord(purpose, "hash") {
			return audit.Finding{}, false // the last is how Gravatar names its pictures
		}
		if name == "SHA-1" && hasWord(purpose, "oaep", "mgf1", "hmac", "totp", "hotp", "fingerprint") {
			return audit.Finding{}, false
		}
		if trial(f, call) || replaces(f, call) {
			return audit.Finding{}, false
		}
		message := fmt.Sprintf("%s is broken", name)
		if keyed {
			message = fmt.Sprintf("an HMAC rests on %s", name)
		}
		sure := audit.Possible // a collision may give nothing away
		for _, n := range purpose {
			if audit.SecretName(n) || audit.PasswordName(n) {
				message += fmt.Sprintf(", and %s rests on it", n)
				sure = audit.Likely
				break
			}
		}
		if keyed || hasWord(purpose, trustWords...) || fromClient(h) {
			sure = audit.Likely
		}
		if rests != (sure == audit.Likely) {
			return audit.Finding{}, false
		}
		return audit.Finding{Message: message, Confidence: sure, Edits: p.Repair(f, func() []audit.Edit { return p.FixHash(f, call) })}, true
	})
}

// trial reports whether a hash is given to a call that signs a literal: nobody
// needs such a signature but who wants to see whether it can be made.
func trial(f *audit.File, hash pysyntax.ID) bool {
	py := f.Python
	n := py.Node(hash)
	for _, id := range f.Around(n.Start, n.End) {
		fn, args, _ := py.Call(id)
		if id == hash || len(args) == 0 {
			continue
		}
		if _, method := py.Attribute(fn); method == "sign" && (py.Kind(args[0]) == pysyntax.Bytes || py.Kind(args[0]) == pysyntax.Str) {
			return true
		}
	}
	return false
}

// replaceRE matches the names of functions that let an old hash in once, to put
// a better one in its place.
var replaceRE = regexp.MustCompile(`(?i)upgrade|migrate|rehash`)

// replaces reports whether a hash is made in a function that says it replaces
// such hashes, compares it, and sets a password in its place.
func replaces(f *audit.File, hash pysyntax.ID) bool {
	py := f.Python
	n := py.Node(hash)
	for _, id := range slices.Backward(f.Around(n.Start, n.End)) {
		if k := py.Kind(id); k != pysyntax.FunctionDef && k != pysyntax.AsyncFunctionDef {
			continue
		}
		text := py.Text(id)
		name, _, _ := strings.Cut(string(text[:min(len(text), 200)]), "(")
		return replaceRE.MatchString(name) && setsPassword.Match(text)
	}
	return false
}

var setsPassword = regexp.MustCompile(`(?i)set_password\(|\.password(?:_hash)? *=[^=]|hash_password\(|generate_password_hash\(`)

// trustWords name uses in which somebody relies on a hash.
var trustWords = []string{"sign", "signed", "signature", "verify", "verified", "auth", "authenticate", "authorize", "session", "login", "digest", "mac", "hmac", "certificate", "cert", "integrity", "encrypt", "decrypt"}

// fromClient reports whether what is hashed comes from a client, who can look
// for a second text with the same hash.
func fromClient(h *pyflow.Hit) bool {
	return slices.ContainsFunc(h.Args, func(v pyflow.Value) bool {
		return slices.ContainsFunc(v.All(), audit.Known(audit.FromOutside))
	})
}

// hasWord reports whether one of the names has one of the words.
func hasWord(names []string, words ...string) bool {
	for _, n := range names {
		for _, w := range audit.NameWords(n) {
			if slices.Contains(words, w) {
				return true
			}
		}
	}
	return false
}

// ---- ciphers ----

var brokenCiphers = map[string]string{
	"DES": "DES", "DES3": "Triple DES", "TripleDES": "Triple DES", "ARC2": "RC2", "RC2": "RC2", "ARC4": "RC4", "RC4": "RC4", "Blowfish": "Blowfish",
	"CAST": "CAST-128", "CAST5": "CAST-128", "IDEA": "IDEA", "SEED": "SEED", "XOR": "XOR",
}

// blockModes have an argument for the mode, at index 1.
var blockModes = map[string]bool{"AES": true, "DES": true, "DES3": true, "ARC2": true, "Blowfish": true, "CAST": true}

func weakCipher(p *audit.Pass) {
	p.Judge(p.Hits("use", "cipher"), func(h *pyflow.Hit) (audit.Finding, bool) {
		parts := strings.Split(h.Path, ".")
		name := parts[len(parts)-1]
		if name == "new" && len(parts) > 1 {
			name = parts[len(parts)-2]
			if b := brokenCiphers[name]; b != "" {
				return audit.Finding{Message: b + " is broken"}, true
			}
			if !blockModes[name] {
				return audit.Finding{}, false
			}
			mode, given := h.Arg(1, "mode")
			ecb := !given && !h.Unpacked
			mode.Each(func(v pyflow.Value) {
				ecb = ecb || strings.HasSuffix(v.Type, ".MODE_ECB") || v.Kind == pyflow.Number && v.Known && v.Number == 1
			})
			return audit.Finding{Message: name + " is used in ECB mode, which shows equal blocks"}, ecb
		}
		if name == "ECB" {
			return audit.Finding{Message: "ECB mode shows equal blocks"}, true
		}
		b := brokenCiphers[name]
		return audit.Finding{Message: b + " is broken"}, b != ""
	})
}

func shortKey(p *audit.Pass) {
	p.Judge(p.Hits("use", "cipher"), func(h *pyflow.Hit) (audit.Finding, bool) {
		i, name := 0, "bits"
		switch {
		case strings.HasSuffix(h.Path, "ec.generate_private_key"):
			return shortCurve(h)
		case strings.HasSuffix(h.Path, "rsa.generate_private_key"):
			i, name = 1, "key_size"
		case strings.HasSuffix(h.Path, "dsa.generate_private_key"):
			name = "key_size"
		case strings.HasSuffix(h.Path, "RSA.generate"), strings.HasSuffix(h.Path, "DSA.generate"):
		default:
			return audit.Finding{}, false
		}
		v, _ := h.Arg(i, name)
		bits := 0.0
		v.Each(func(v pyflow.Value) {
			if v.Kind == pyflow.Number && v.Known && v.Number < 2048 {
				bits = v.Number
			}
		})
		return audit.Finding{Message: fmt.Sprintf("a key of %.0f bits is too short", bits)}, bits > 0
	})
}

// curveBits finds the size of a field in the name of a curve.
var curveBits = regexp.MustCompile(`\.(?:SECP|SECT|BrainpoolP)(\d+)[A-Z]\d$`)

func shortCurve(h *pyflow.Hit) (audit.Finding, bool) {
	v, _ := h.Arg(0, "curve")
	short := ""
	v.Each(func(v pyflow.Value) {
		if m := curveBits.FindStringSubmatch(v.Type); m != nil {
			if bits, _ := strconv.Atoi(m[1]); bits < 256 && bits != 233 && bits != 239 {
				short = m[1]
			}
		}
	})
	f := audit.Finding{Message: "a curve of " + short + " bits is too short"}
	if len(v.Alternatives) > 0 {
		f.Confidence, f.Message = audit.Possible, "a curve can be chosen that has "+short+" bits, which is too short"
	}
	return f, short != ""
}

// ---- vectors and salts ----

// vectorArgs are the arguments that must be another each time: of a method's
// last two names, the index and the names it may have.
var vectorArgs = map[string]struct {
	index int
	names []string
	what  string
}{
	"AES.new": {2, []string{"iv", "IV", "nonce"}, "initialisation vector"}, "DES3.new": {2, []string{"iv", "IV", "nonce"}, "initialisation vector"},
	"ChaCha20.new": {-1, []string{"nonce"}, "nonce"}, "ChaCha20_Poly1305.new": {-1, []string{"nonce"}, "nonce"}, "Salsa20.new": {1, []string{"nonce"}, "nonce"},
	"modes.CBC": {0, []string{"initialization_vector"}, "initialisation vector"}, "modes.CFB": {0, []string{"initialization_vector"}, "initialisation vector"},
	"modes.CFB8": {0, []string{"initialization_vector"}, "initialisation vector"}, "modes.OFB": {0, []string{"initialization_vector"}, "initialisation vector"},
	"modes.GCM": {0, []string{"initialization_vector"}, "initialisation vector"}, "modes.CTR": {0, []string{"nonce"}, "nonce"},
	"hashlib.pbkdf2_hmac": {2, []string{"salt"}, "salt"}, "hashlib.scrypt": {-1, []string{"salt"}, "salt"},
	"pbkdf2.PBKDF2HMAC": {2, []string{"salt"}, "salt"}, "scrypt.Scrypt": {0, []string{"salt"}, "salt"},
	"KDF.PBKDF2": {1, []string{"salt"}, "salt"}, "KDF.scrypt": {1, []string{"salt"}, "salt"}, "bcrypt.hashpw": {1, []string{"salt"}, "salt"}, "bcrypt.kdf": {1, []string{"salt"}, "salt"},
}

func constantVector(p *audit.Pass) {
	p.Judge(p.Hits("use", "cipher", "password-hash"), func(h *pyflow.Hit) (audit.Finding, bool) {
		arg, ok := vectorArgs[lastTwo(h.Path)]
		if !ok {
			return audit.Finding{}, false
		}
		for _, name := range arg.names {
			v, given := h.Arg(arg.index, name)
			if !given {
				continue
			}
			texts := audit.Consts(v)
			// A hash that was made before brings its salt along.
			if len(texts) == 0 || len(v.Alternatives) > len(texts) || arg.what == "salt" && strings.HasPrefix(texts[0], "$2") && len(texts[0]) > 29 {
				return audit.Finding{}, false
			}
			if f, call := p.HitCall(h); call == 0 || arg.what != "salt" && deciphers(f, call) {
				return audit.Finding{}, false
			}
			return audit.Finding{Message: "the " + arg.what + " of " + lastTwo(h.Path) + " is a constant"}, true
		}
		return audit.Finding{}, false
	})
}

// deciphers reports whether what a call makes is only decrypted with: there the
// vector is what the other side has chosen.
func deciphers(f *audit.File, call pysyntax.ID) bool {
	py := f.Python
	n := py.Node(call)
	for _, id := range slices.Backward(f.Around(n.Start, n.End)) {
		switch py.Kind(id) {
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef:
			name := strings.ToLower(py.FunctionDef(id).Name)
			return strings.Contains(name, "decrypt") || strings.Contains(name, "decipher") || strings.Contains(name, "unseal")
		case pysyntax.Attribute:
			if _, method := py.Attribute(id); method == "decrypt" || method == "decryptor" {
				return true
			}
		}
	}
	return false
}

// ---- randomness ----

// playWords name uses in which nobody gains by guessing.
var playWords = []string{"sleep", "jitter", "backoff", "retry", "delay", "wait", "interval", "noise", "demo", "fake", "faker", "mock", "sample", "simulate", "simulation",
	"simulator", "shuffle", "shuffled", "partition", "shard", "shards", "bucket", "buckets", "color", "colour", "colors", "quote", "seed", "fixture", "fixtures", "dummy", "dice", "game", "lorem", "placeholder", "animation"}

// issuedWords name what is given out to somebody, who may be another than who
// guesses it. One that is chosen among those there are is not made here.
var issuedWords = []string{"code", "voucher", "coupon", "ticket", "invite", "invitation", "key", "id", "uid", "uuid", "guid", "slug", "serial", "account", "reference"}

// playFiles name files that only make up data.
var playFiles = []string{"seed", "seeds", "seeder", "fixture", "fixtures", "fake", "faker", "mock", "mocks", "simulate", "simulation", "simulator", "populate"}

// weakRandom reports draws from random's generator: those whose purpose is a
// secret, or the others.
func weakRandom(p *audit.Pass, secret bool) {
	reached := map[pyflow.Span]string{}
	mark := func(kind, verb, what string) {
		for _, h := range p.Hits(verb, kind) {
			for _, v := range slices.Concat(h.Focus, h.Args) {
				for _, l := range v.All() {
					if l.Kind == "weak-random" && reached[l.At] == "" {
						reached[l.At] = what
					}
				}
			}
		}
	}
	mark("cookie-value", "sink", "a cookie")
	mark("session", "set", "the session")
	mark("session", "sink", "the session")
	// What came of a draw is seen by somebody, or chooses what is read or
	// written: a draw that only decides something here helps nobody who
	// guesses it.
	seen := map[pyflow.Span]bool{}
	if !secret {
		for _, h := range p.Hits("sink", "response", "header", "redirect", "url", "sql", "nosql", "path-write", "path-read", "email-header", "output", "assign") {
			for _, v := range slices.Concat(h.Focus, h.Args) {
				for _, l := range v.All() {
					if l.Kind == "weak-random" {
						seen[l.At] = true
					}
				}
			}
		}
	}
	p.Judge(p.Hits("use", "random"), func(h *pyflow.Hit) (audit.Finding, bool) {
		name := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
		if strings.HasPrefix(h.Path, "numpy.") || strings.HasPrefix(h.Path, "uuid.") || name == "seed" || name == "Random" {
			return audit.Finding{}, false
		}
		f, call := p.HitCall(h)
		if call == 0 {
			return audit.Finding{}, false // an import
		}
		purpose := f.Purpose(h.At.Start, h.At.End)
		what := reached[h.At]
		if what == "" {
			for _, n := range purpose {
				if audit.SecretName(n) || audit.PasswordName(n) {
					what = n
					break
				}
			}
		}
		if what == "the session" && hasWord(purpose, "captcha") {
			return audit.Finding{}, false // what a picture asks: whoever sees it knows it
		}
		if (what != "") != secret {
			return audit.Finding{}, false
		}
		if what == "" && (!seen[h.At] && (name == "choice" || !hasWord(purpose, issuedWords...)) && !written(f, call) || name == "shuffle" || hasWord(purpose, playWords...) || hasWord(madeUp(f, call), "fake", "mock", "stub", "dummy", "placeholder") || hasWord([]string{path.Base(f.Path)}, playFiles...)) {
			return audit.Finding{}, false
		}
		out := audit.Finding{Message: fmt.Sprintf("random.%s can be predicted", name)}
		if what != "" {
			out.Message += ", and " + what + " is made of it"
		}
		out.Edits = p.Repair(f, func() []audit.Edit { return p.FixRandom(f, call) })
		return out, true
	})
}

// madeUp returns the names of the classes that a draw is made in, and the texts
// that it is put behind: of a class that stands for a service in tests, or a
// text that says of itself that it takes the place of another.
func madeUp(f *audit.File, call pysyntax.ID) []string {
	py := f.Python
	n := py.Node(call)
	var out []string
	for _, id := range f.Around(n.Start, n.End) {
		switch py.Kind(id) {
		case pysyntax.ClassDef:
			out = append(out, py.ClassDef(id).Name)
		case pysyntax.BinOp:
			left, _, _ := py.BinOp(id)
			if text, ok := py.StringValue(left); ok {
				out = append(out, strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })...)
			}
		}
	}
	return out
}

// written reports whether a number, or what is drawn, is made part of a text
// where it is drawn: str(…), "".join(…), a format. Numbers that only decide
// something are not.
func written(f *audit.File, call pysyntax.ID) bool {
	py := f.Python
	n := py.Node(call)
	around := f.Around(n.Start, n.End)
	for _, id := range slices.Backward(around[:max(0, len(around)-1)]) {
		switch py.Kind(id) {
		case pysyntax.JoinedStr:
			return true
		case pysyntax.BinOp:
			if left, _, _ := py.BinOp(id); py.Kind(left) == pysyntax.Str {
				return true
			}
		case pysyntax.Call:
			fn, _, _ := py.Call(id)
			if name := py.Name(fn); name == "str" || name == "hex" || name == "repr" || name == "bytes" {
				return true
			}
			if _, method := py.Attribute(fn); method == "join" || method == "format" || method == "hexdigest" || method == "to_bytes" {
				return true
			}
		case pysyntax.FunctionDef, pysyntax.AsyncFunctionDef, pysyntax.ClassDef, pysyntax.Lambda, pysyntax.If, pysyntax.While, pysyntax.For, pysyntax.ExprStmt:
			return false
		}
	}
	return false
}

// ---- literals ----

// clients are the modules whose calls take credentials.
var clients = []string{
	"psycopg2", "psycopg", "asyncpg", "pymysql", "MySQLdb", "mysql", "mariadb", "pymssql", "pyodbc", "oracledb", "cx_Oracle", "cassandra", "clickhouse_driver", "clickhouse_connect",
	"sqlalchemy", "redis", "pymongo", "mongoengine", "motor", "neo4j", "elasticsearch", "opensearchpy", "influxdb", "influxdb_client", "couchdb", "snowflake",
	"smtplib", "imaplib", "poplib", "ftplib", "nntplib", "telnetlib", "paramiko", "fabric", "pysftp", "pexpect", "ldap", "ldap3", "winrm", "smb",
	"boto3", "boto", "botocore", "azure", "google", "minio", "hvac", "requests", "httpx", "aiohttp", "requests_oauthlib", "oauthlib", "authlib", "twilio", "stripe", "sendgrid",
	"pika", "kombu", "celery", "stomp", "paho", "nats", "confluent_kafka", "kafka", "tweepy", "slack_sdk", "slack", "telegram", "discord", "github", "gitlab", "jira", "consul", "docker",
	"flask_mysqldb", "flask_httpauth", "flask_basicauth", "openai", "anthropic", "cloudinary", "mailchimp", "pusher", "nexmo", "vonage",
}

// credentialArgs are the keyword arguments that take a secret.
var credentialArgs = map[string]bool{
	"password": true, "passwd": true, "pwd": true, "passphrase": true, "secret": true, "secret_key": true, "api_key": true, "apikey": true, "api_secret": true,
	"token": true, "access_token": true, "auth_token": true, "bearer_token": true, "client_secret": true, "consumer_secret": true, "access_token_secret": true,
	"aws_secret_access_key": true, "aws_session_token": true, "http_auth": true, "auth": true, "basic_auth": true, "private_key": true, "sas_token": true,
	"account_key": true, "secret_access_key": true, "bind_password": true, "login_token": true,
}

// byPlace are the calls that take a key or password by place: its index and
// name.
var byPlace = map[string]struct {
	index int
	name  string
}{
	"login": {1, "password"}, "pass_": {0, "pswd"}, "FTP": {2, "passwd"}, "FTP_TLS": {2, "passwd"}, "connect": {2, "password"}, "Connection": {2, "password"},
	"HTTPBasicAuth": {1, "password"}, "HTTPDigestAuth": {1, "password"}, "BasicAuth": {1, "password"}, "Client": {1, "password"},
	"Signer": {0, "secret_key"}, "TimestampSigner": {0, "secret_key"}, "Serializer": {0, "secret_key"}, "TimedSerializer": {0, "secret_key"},
	"URLSafeSerializer": {0, "secret_key"}, "URLSafeTimedSerializer": {0, "secret_key"}, "Fernet": {0, "key"},
	"encode": {1, "key"}, "decode": {1, "key"}, "new": {0, "key"}, "AES": {0, "key"},
}

func literalCredentials(p *audit.Pass) {
	seen := map[audit.Span]bool{}
	report := func(at audit.Span, message string) {
		if !seen[at] {
			seen[at] = true
			p.Report(audit.Finding{Span: at, Message: message})
		}
	}
	for _, h := range p.Hits("use", "credential", "jwt-encode", "jwt-decode", "hash", "cipher") {
		if h.Kind == "hash" && h.Path != "hmac.new" {
			continue
		}
		last := h.Path[strings.LastIndexByte(h.Path, '.')+1:]
		arg, ok := byPlace[last]
		if !ok {
			continue
		}
		if last == "encode" && strings.HasPrefix(h.Path, "authlib.") {
			arg.index = 2 // behind the header and what the token says
		}
		v, given := h.Arg(arg.index, arg.name)
		at := audit.ArgAt(h, arg.index, arg.name)
		if !given || at == nil {
			continue
		}
		texts := audit.Consts(v)
		if len(v.Alternatives) > len(texts)+1 {
			continue // put together in ways that nobody can tell apart
		}
		for _, text := range texts {
			if text == "" && (h.Kind == "jwt-encode" || h.Kind == "jwt-decode" || h.Kind == "cipher") && len(v.Alternatives) == 0 && verifies(h) {
				report(p.Project.FlowSpan(*at), fmt.Sprintf("the %s of %s is empty", strings.ReplaceAll(arg.name, "_", " "), lastTwo(h.Path)))
				break
			}
			if text == "" || h.Kind == "credential" && !signs(h.Path) && placeholder(text) || publicKey(text) || knownSetting(p, text) {
				continue
			}
			verb := "is"
			if len(v.Alternatives) > 0 {
				verb = "can be"
			}
			report(p.Project.FlowSpan(*at), fmt.Sprintf("the %s of %s %s a literal of %d characters", strings.ReplaceAll(arg.name, "_", " "), lastTwo(h.Path), verb, len(text)))
			break
		}
		if h.Kind != "credential" && len(texts) == 0 {
			if s := ownSetting(p, h, *at); s != nil {
				report(p.Span(s.Position), fmt.Sprintf("%s, the %s of %s, is a literal of %d characters", s.Key, strings.ReplaceAll(arg.name, "_", " "), lastTwo(h.Path), len(s.Value.Text)))
			}
		}
	}
	for f := range p.Python() {
		py := f.Python
		for i := range py.Nodes {
			id := pysyntax.ID(i)
			fn, _, keywords := py.Call(id)
			for _, k := range keywords {
				n, v := py.KeywordArg(k)
				if !credentialArgs[strings.ToLower(n)] || !holdsText(py, v) {
					continue
				}
				callee := p.Flask.Name(f.Path, fn)
				_, method := py.Attribute(fn)
				if !isClient(callee) && (callee != "" || method != "connect" && method != "login") {
					continue
				}
				if callee == "" {
					callee = method
				}
				if text, ok := literalText(p, f, v); ok && text != "" && !placeholder(text) && !knownSetting(p, text) {
					report(f.NodeSpan(v), fmt.Sprintf("the %s of %s is a literal of %d characters", strings.ReplaceAll(n, "_", " "), lastTwo(callee), len(text)))
				}
			}
		}
	}
}

// verifies reports whether a token is signed, or its signature looked at: where
// that is switched off, DW-AUTHN-003 speaks, and no key is needed.
func verifies(h *pyflow.Hit) bool {
	if v, ok := h.Keywords["verify"]; ok && audit.MayBe(v, false) {
		return false
	}
	if v, ok := h.Keywords["options"].Field("verify_signature"); ok && audit.MayBe(v, false) {
		return false
	}
	v, _ := h.Arg(2, "algorithm")
	return !slices.ContainsFunc(audit.Consts(v), func(s string) bool { return strings.EqualFold(s, "none") })
}

// signs reports whether a call signs or encrypts: there a placeholder is a
// key that everybody knows, not a gap that somebody fills.
func signs(callee string) bool {
	return strings.HasPrefix(callee, "itsdangerous.") || strings.HasPrefix(callee, "cryptography.")
}

// publicKey reports whether a key may be known to everybody.
func publicKey(text string) bool {
	return strings.Contains(text, "PUBLIC KEY") || strings.Contains(text, "BEGIN CERTIFICATE")
}

func isClient(callee string) bool {
	module, _, dotted := strings.Cut(callee, ".")
	return dotted && slices.Contains(clients, module)
}

// holdsText reports whether an expression can be, or hold, a literal text.
func holdsText(py *pysyntax.File, id pysyntax.ID) bool {
	switch py.Kind(id) {
	case pysyntax.Str, pysyntax.Bytes, pysyntax.Name, pysyntax.Attribute, pysyntax.Tuple, pysyntax.BinOp, pysyntax.Call:
		return true
	}
	return false
}

// literalText returns the constant text that a value is: of an ("user",
// "password") pair the last.
func literalText(p *audit.Pass, f *audit.File, id pysyntax.ID) (string, bool) {
	if f.Python.Kind(id) == pysyntax.Tuple {
		if e := f.Python.Elts(id); len(e) == 2 {
			return literalText(p, f, e[1])
		}
		return "", false
	}
	v := p.Flask.Value(f.Path, id)
	if !v.Known || v.Kind != flask.String && v.Kind != flask.Bytes || v.FromEnv != "" {
		return "", false
	}
	return v.Text, true
}

// knownSetting reports whether a text is the value of a setting, of which
// DW-SECRETS-001 speaks.
func knownSetting(p *audit.Pass, text string) bool {
	return slices.ContainsFunc(p.Flask.Settings, func(s *flask.Setting) bool { return isLiteral(s.Value) && s.Value.Text == text })
}

// ownSetting returns the setting of the app's own of which an argument is the
// value, as in app.config["TICKET_KEY"], if that is a literal in production;
// nil for the settings of which other rules speak.
func ownSetting(p *audit.Pass, h *pyflow.Hit, at pyflow.Span) *flask.Setting {
	f := p.Project.File(at.File)
	if f == nil || f.Python == nil {
		return nil
	}
	py := f.Python
	id := p.ValueAt(f, p.Project.FlowSpan(at))
	base, key := py.Subscript(id)
	if call, args, _ := py.Call(id); call != 0 && len(args) > 0 {
		if on, method := py.Attribute(call); method == "get" {
			base, key = on, args[0]
		}
	}
	name, _ := py.StringValue(key)
	if on, attr := py.Attribute(base); base == 0 || attr != "config" || on == 0 || name == "" {
		return nil
	}
	if _, known := flask.KnownSetting(name); known {
		return nil
	}
	e := p.Flask.Effective(name, "production")
	if e.Setting == nil || !isLiteral(e.Value) || e.Value.Text == "" || placeholder(e.Value.Text) {
		return nil
	}
	return e.Setting
}

func lastTwo(name string) string {
	parts := strings.Split(name, ".")
	return strings.Join(parts[max(0, len(parts)-2):], ".")
}

func literalComparison(p *audit.Pass) {
	for f := range p.Python() {
		py := f.Python
		for i := range py.Nodes {
			id := pysyntax.ID(i)
			left, rest := py.Compare(id)
			if len(rest) != 1 || rest[0].Op != pysyntax.CmpEq && rest[0].Op != pysyntax.CmpNe {
				continue
			}
			secret, other := left, rest[0].Right
			name := comparedName(py, secret)
			if !audit.PasswordName(name) && !audit.SecretName(name) {
				secret, other = other, secret
				if name = comparedName(py, secret); !audit.PasswordName(name) && !audit.SecretName(name) {
					continue
				}
			}
			if k := py.Kind(other); k != pysyntax.Str && k != pysyntax.Bytes && k != pysyntax.Name && k != pysyntax.Attribute {
				continue
			}
			if settingsRE.Match(py.Text(secret)) || py.Kind(other) == pysyntax.Attribute && comparedName(py, other) == name {
				continue // nobody typed that: a default is looked for
			}
			text, ok := literalText(p, f, other)
			if !ok || len(text) < 3 || notAPassword(text, name) || placeholder(text) && py.Kind(other) != pysyntax.Str {
				continue
			}
			// What is compared with one word and another is a choice.
			if switched(f, id, secret, other) {
				continue
			}
			p.Report(audit.Finding{Span: f.NodeSpan(id), Message: fmt.Sprintf("%s is compared with a literal of %d characters", name, len(text))})
		}
	}
}

// settingsRE matches what is read from the app's settings.
var settingsRE = regexp.MustCompile(`(?i)(?:^|[._])(?:config|settings|conf|environ|getenv)\b`)

// switched reports whether the function around a comparison compares the same
// expression with another literal.
func switched(f *audit.File, compare, secret, other pysyntax.ID) bool {
	py := f.Python
	n := py.Node(compare)
	scope := py.Root
	for _, id := range slices.Backward(f.Around(n.Start, n.End)) {
		if k := py.Kind(id); k == pysyntax.FunctionDef || k == pysyntax.AsyncFunctionDef {
			scope = id
			break
		}
	}
	what, found := string(py.Text(secret)), false
	pysyntax.Walk(py, scope, func(id pysyntax.ID) bool {
		left, rest := py.Compare(id)
		if len(rest) == 1 && id != compare {
			a, b := left, rest[0].Right
			if string(py.Text(a)) != what {
				a, b = b, a
			}
			found = found || string(py.Text(a)) == what && py.Kind(b) == py.Kind(other) && len(py.Text(b)) > 4 && string(py.Text(b)) != string(py.Text(other))
		}
		return !found
	})
	return found
}

// notAPassword reports whether a text that a secret is compared with is a
// word of the program: token == "INDENT", password == "password", csrf ==
// "disabled".
func notAPassword(text, name string) bool {
	words := audit.NameWords(name)
	low := strings.ToLower(text)
	if slices.Contains([]string{"none", "null", "true", "false", "undefined", "disabled", "enabled", "invalid", "expired", "bearer", "basic", "unknown", "default", "anonymous"}, low) || strings.ContainsAny(text, " <>{}()[]") {
		return true
	}
	// A tokenizer's token: a single word or sign, without a request around.
	if slices.ContainsFunc(words, func(w string) bool { return w == "token" || w == "tokens" }) {
		return strings.IndexFunc(text, func(r rune) bool { return r >= '0' && r <= '9' }) < 0 || len(text) < 8
	}
	return false
}

// comparedName returns what the expression is called: "password" of
// request.form["password"], form.password.data and request.args.get("password").
func comparedName(py *pysyntax.File, id pysyntax.ID) string {
	switch py.Kind(id) {
	case pysyntax.Name:
		return py.Name(id)
	case pysyntax.Attribute:
		base, name := py.Attribute(id)
		if name == "data" || name == "value" {
			return comparedName(py, base)
		}
		return name
	case pysyntax.Subscript:
		_, key := py.Subscript(id)
		s, _ := py.StringValue(key)
		return s
	case pysyntax.Call:
		fn, args, _ := py.Call(id)
		base, method := py.Attribute(fn)
		switch method {
		case "get":
			if len(args) > 0 {
				s, _ := py.StringValue(args[0])
				return s
			}
		case "strip", "encode", "decode", "lower":
			return comparedName(py, base)
		}
	}
	return ""
}
