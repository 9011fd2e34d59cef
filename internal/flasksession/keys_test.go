package flasksession

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func TestWeakKey(t *testing.T) {
	for _, k := range []string{
		"", "dev", "secret", "x", "0123456789abcde",
		"you-will-never-guess", "You Will Never Guess!", "super secret key", "SUPER-SECRET-KEY-123", "hard to guess string",
		"change-this-secret-key", "your-secret-key-here", "dev-secret-key-change-in-production", "thisisasecretkey", "this is my secret key 2024",
		"my-flask-app-secret-key", "flask-app-development-key", "please-change-this-secret-in-production", "insecure-key-for-testing-only",
		"example_secret_key_for_the_tutorial", "supersecretpassword1234", "placeholder-secret-please-replace",
		"aaaaaaaaaaaaaaaaaaaaaaaa", "abcabcabcabcabcabcabcabc", "0123456789abcdef0123456789abcdef", "0123456789abcdefghijklmnop",
		"abcdefghijklmnopqrstuvwxyz123456", "qwertyuiopasdfghjklzxcvbnm", "1111111111111111", "12345678901234567890", "zyxwvutsrqponmlkjihgfedcba",
		"1qaz2wsx3edc4rfv5tgb", "deadbeefdeadbeefdeadbeef", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf", "_5#y2L\"F4Q8z\n\xec]/", `A0Zr98j/3yX R~XHH!jmN]LWX/,?RT`,
		"\x02\x01thisismyscretkey\x01\x02\\e\\y\\y\\h", "CHANGE_ME_TO_A_COMPLEX_RANDOM_SECRET",
	} {
		why := WeakKey(k)
		if why == "" {
			t.Errorf("%q passes", k)
		}
		if len(k) > 8 && strings.Contains(why, k) {
			t.Errorf("the answer quotes the key: %s", why)
		}
	}
	for _, k := range []string{
		"8f42a73054b1749f8f58848be5e6502c", // token_hex(16)
		"f3cfe9ed8fae309f02079dbf0c1a4d9b2e7c5a61803f4d2b9c8e7f6a5b4c3d2e",
		"b8Kx-2QpWfN_0sLrT9uYvA",               // token_urlsafe(16)
		"9OLWxND4o83j4K4iuopOwJ3HnYzzbN2p1kQh", // password generator
		"d1c2f7b6-5a0e-4f3b-9b6e-2a1f0c7d8e9a", // uuid4
		"correct horse battery staple purple",  // diceware
		"prod-8f42a73054b1749f8f58848be5e6502c",
		"secret_8f42a73054b1749f8f58848be5e6502c",
		"!4kQ#z9L@w7Xp$2VnR&",
		"\x93\xfa\x12\x88\x07\xc1\x5e\x3d\xb0\x42\xe9\x7f\x66\x1b\xd4\x2a",
		"Füße-Übermut-Äpfel-Öfen-Grüße",
	} {
		if why := WeakKey(k); why != "" {
			t.Errorf("%q %s", k, why)
		}
	}
}

// Keys from every generator people are told to use pass, always: a refusal to
// start because of a good key would teach users to switch the preflight off.
func TestRandomKeysPass(t *testing.T) {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	for i := range 20000 {
		b := make([]byte, 32)
		rand.Read(b)
		alnum := make([]byte, 20)
		for j := range alnum {
			alnum[j] = letters[int(b[j])%len(letters)]
		}
		for kind, k := range map[string]string{
			"os.urandom(16)":   string(b[:16]),
			"os.urandom(24)":   string(b[:24]),
			"token_hex(16)":    hex.EncodeToString(b[:16]),
			"token_hex(32)":    hex.EncodeToString(b),
			"token_urlsafe":    base64.RawURLEncoding.EncodeToString(b),
			"openssl rand":     base64.StdEncoding.EncodeToString(b),
			"password manager": string(alnum),
		} {
			if why := WeakKey(k); why != "" {
				t.Fatalf("%d: %s %q %s", i, kind, k, why)
			}
		}
	}
}

func TestList(t *testing.T) {
	if n := len(published()); n < 200 {
		t.Errorf("only %d published keys", n)
	}
	for line := range strings.Lines(weakKeys) {
		k := strings.TrimSpace(line)
		if k != "" && !strings.HasPrefix(k, "# ") && WeakKey(k) == "" {
			t.Errorf("the published key %q passes", k)
		}
	}
}

func FuzzWeakKey(f *testing.F) {
	for _, s := range []string{"", "dev", "\xff\xfe", "İstanbul-secret-key-1234", "secret secret secret secret", "8f42a73054b1749f8f58848be5e6502c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, k string) {
		if len(k) < minKeyBytes && WeakKey(k) == "" {
			t.Fatalf("%q is short and passes", k)
		}
		if WeakKey(k+k+k) == "" && len(k) < minKeyBytes {
			t.Fatalf("%q three times passes", k)
		}
	})
}

func BenchmarkWeakKey(b *testing.B) {
	for b.Loop() {
		if why := WeakKey("8f42a73054b1749f8f58848be5e6502c"); why != "" {
			b.Fatal(fmt.Sprint(why))
		}
	}
}

// TestPublishedIsWeak: what is tried as published, WeakKey refuses.
func TestPublishedIsWeak(t *testing.T) {
	all := Published()
	if len(all) < 1000 {
		t.Fatalf("only %d candidates", len(all))
	}
	for _, k := range all {
		if WeakKey(k) == "" {
			t.Errorf("%q is tried as published and passes as strong", k)
		}
	}
}
