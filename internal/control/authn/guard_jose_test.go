package authn

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// TestKeysOfAnIssuerThatHangs: who names a key that there is not is let go long
// before the issuer is given up, and tokens of known keys wait for nothing.
func TestKeysOfAnIssuerThatHangs(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var hangs, asked, givenUp atomic.Bool
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hangs.Load() {
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "ours", Algorithm: "EdDSA", Use: "sig"}}})
			return
		}
		asked.Store(true)
		select {
		case <-r.Context().Done():
			givenUp.Store(true)
		case <-release:
		}
	}))
	defer srv.Close()
	defer close(release)
	s := newKeySet(func(context.Context) (string, error) { return srv.URL, nil }, srv.Client(), time.Now, []string{"EdDSA"})
	s.pause = 0
	if keys, err := s.find(t.Context(), header{kid: "ours", alg: "EdDSA"}); err != nil || len(keys) != 1 {
		t.Fatalf("%v %v", keys, err)
	}
	hangs.Store(true)
	_, err = s.find(t.Context(), header{kid: "nobody's", alg: "EdDSA"})
	if !errors.Is(err, errUnavailable) {
		t.Errorf("a key that the issuer may have by now: %v", err)
	}
	if givenUp.Load() {
		t.Error("the token waited until the issuer was given up")
	}
	if !asked.Load() {
		t.Error("the issuer was not asked")
	}
	if keys, err := s.find(t.Context(), header{kid: "ours", alg: "EdDSA"}); err != nil || len(keys) != 1 || givenUp.Load() {
		t.Errorf("a known key meanwhile: %v %v", keys, err)
	}
}
