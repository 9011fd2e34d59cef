package flask

import "testing"

// TestHealthChecks: authn leaves health checks open, so a page that only
// speaks of health, or of what is ready, is none.
func TestHealthChecks(t *testing.T) {
	for _, c := range []struct {
		rule, endpoint string
		want           RouteKind
	}{
		{"/health", "health", KindHealth}, {"/healthz", "h", KindHealth}, {"/api/health", "api.health", KindHealth}, {"/ping", "ping", KindHealth},
		{"/shop/healthz", "shop.healthz", KindHealth}, {"/shop/health-check", "x", KindHealth}, {"/shop/health", "shop.health_status", KindHealth}, {"/ready", "x", KindHealth}, {"/health/ready", "x", KindHealth},
		{"/orders/ready", "orders.ready", KindPage}, {"/patients/health", "health", KindPage}, {"/players/alive", "alive", KindPage}, {"/devices/ping", "ping", KindPage},
		{"/a/b/healthz", "x", KindPage}, {"/report", "health", KindPage},
	} {
		if got := routeKind(&Route{Rule: c.rule, Endpoint: c.endpoint, Methods: []string{"GET"}}); got != c.want {
			t.Errorf("%s (%s): %s, want %s", c.rule, c.endpoint, got, c.want)
		}
	}
}
