package session

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dewar-security/dewar/internal/store"
)

// listed is a line of "session list".
type listed struct {
	Handle  string    `json:"handle"`
	Kind    string    `json:"kind"`
	Login   time.Time `json:"login"`
	Used    time.Time `json:"last_used"`
	Client  string    `json:"client"`
	Agent   string    `json:"agent"`
	Account string    `json:"account"`
}

// ended is what the commands say that end something.
type endedCount struct {
	Ended   int    `json:"ended"`
	Account string `json:"account,omitempty"`
}

// maxListed bounds one list.
const maxListed = 10000

// Operate implements [guard.Operator].
func (l *seal) Operate(ctx context.Context, command string, args map[string]string) (any, error) {
	switch command {
	case "session list":
		out := []listed{}
		err := l.records(ctx, args["account"], func(_ string, r record) {
			if len(out) < maxListed {
				out = append(out, listed{r.Handle, r.Kind, r.Login, r.Used, r.Client, r.Agent, r.Account})
			}
		})
		slices.SortFunc(out, func(a, b listed) int { return b.Used.Compare(a.Used) })
		return out, err
	case "session end":
		account := args["account"]
		// The mark first: a session that begins to be written meanwhile is
		// behind it.
		if err := l.endMark(ctx, "@"+accountKey(cutAccount(account))); err != nil {
			return nil, err
		}
		n, err := l.forget(ctx, account)
		return endedCount{n, account}, err
	case "session end-all":
		if err := l.endMark(ctx, "*"); err != nil {
			return nil, err
		}
		n, err := l.forget(ctx, "")
		return endedCount{Ended: n}, err
	case "session rotate-keys":
		if err := l.ring.rotate(true); err != nil {
			return nil, err
		}
		// No cookie opens any more: this mark is for streams that go on, alone.
		if err := l.endMark(ctx, "*keys"); err != nil {
			return nil, err
		}
		n, err := l.forget(ctx, "")
		return endedCount{Ended: n}, err
	}
	return nil, fmt.Errorf("the session layer has no command %q", command)
}

// endMark ends every session that began before now.
func (l *seal) endMark(ctx context.Context, name string) error {
	v := fmt.Appendf(nil, "%c%d", endOperator, l.now().UnixMilli())
	return l.ended.Put(ctx, endedFolder+name, v, 400*24*time.Hour)
}

// records visits the records of an account, or of all.
func (l *seal) records(ctx context.Context, account string, visit func(key string, r record)) error {
	prefix := recordFolder
	if account != "" {
		prefix += accountKey(cutAccount(account)) + "/"
	}
	return l.env.Store.Scan(ctx, prefix, func(e store.Entry) bool {
		var r record
		if json.Unmarshal(e.Value, &r) == nil {
			visit(e.Key, r)
		}
		return true
	})
}

// forget deletes the records of an account, or of all.
func (l *seal) forget(ctx context.Context, account string) (int, error) {
	var keys []string
	if err := l.records(ctx, account, func(key string, _ record) { keys = append(keys, key) }); err != nil {
		return 0, err
	}
	for i, key := range keys {
		if err := l.env.Store.Delete(ctx, key); err != nil {
			return i, err
		}
		handle := key[strings.LastIndexByte(key, '/')+1:]
		_ = l.env.Store.Delete(ctx, valueFolder+handle)
	}
	return len(keys), nil
}
