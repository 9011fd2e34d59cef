package abuse

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// BenchmarkDetect is what a request with many fields costs that is no login.
func BenchmarkDetect(b *testing.B) {
	st := store.NewMemory(store.MemoryOptions{Buckets: 8})
	defer st.Close()
	l, err := NewLogin(loginDefaults(b), guard.Env{Store: st})
	if err != nil {
		b.Fatal(err)
	}
	defer l.(*loginLayer).Close()
	var text strings.Builder
	text.WriteString(`{"order": [`)
	for i := range 100 {
		fmt.Fprintf(&text, `{"product_id": %d, "Quantity": 2, "unit-price": "9.99", "deliveryAddressLine": "x"},`, i)
	}
	text.WriteString(`{}]}`)
	r := httptest.NewRequest("POST", "/orders", strings.NewReader(text.String()))
	r.Header.Set("Content-Type", "application/json")
	x := &guard.Exchange{Request: r, Path: r.URL.Path}
	if fields, err := x.Fields(); err != nil || len(fields) < 400 {
		b.Fatal(len(fields), err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if a := l.(*loginLayer).detect(x); a.kind != noAttempt {
			b.Fatal(a.kind)
		}
	}
}
