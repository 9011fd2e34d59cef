package attack

import (
	"bytes"
	"image"
	"image/color"
	imagepng "image/png"
	"net/http"
	"strings"
	"testing"
)

// TestHonest: what people do passes with every layer on that the attacks meet,
// with the guard's defaults for limits and bans.
func TestHonest(t *testing.T) {
	x := guarded(t, `[abuse]
login-delay = "0s"
[session]
seal = "enforce"
[headers]
csp-mode = "enforce"
[settings]
mask = "enforce"
`, "SECRET_KEY=0ddb3c3e8a8d4c1fa7ddc5dd3a3c8e6df6ba9c0f", "SMTP_PORT="+mailServer(t).port)
	b := x.browser()
	want := func(a answer, status int, text string) {
		t.Helper()
		if a.StatusCode != status || !strings.Contains(a.text, text) {
			t.Errorf("%s %s: %d, want %d with %q\n%.300s", a.Request.Method, a.Request.URL, a.StatusCode, status, text, a.text)
		}
	}
	want(b.get("/"), 200, "Copper kettle")
	for _, q := range []string{"flask", "O'Neil's mug", "tea & coffee", "1 litre or 2", "select a kettle from the union", "50% off; drop by", "cup (white)", "naïve café", "a -- b", "C:\\Users", "<3"} {
		// An honest apostrophe is a syntax error in leaky's SQL, and so what the
		// virtual patch there keeps out.
		if a := b.get("/?" + query("q", q)); a.StatusCode != 200 && !(strings.Contains(q, "'") && a.StatusCode == 403) {
			t.Errorf("search for %q: %d", q, a.StatusCode)
		}
	}
	want(b.get("/product/1"), 200, "Dewar flask")
	want(b.get("/product/99"), 404, "")
	want(b.get("/nowhere"), 404, "")
	want(b.form("/register", "email", "ann@leaky.example", "name", "Ann O'Neil & Söhne", "password", "';--my p@ss <word>"), 302, "")
	want(b.login("ann@leaky.example", "wrong"), 200, "The password is wrong")
	want(b.login("ann@leaky.example", "wrong again"), 200, "The password is wrong")
	want(b.login("ann@leaky.example", "';--my p@ss <word>"), 302, "")
	want(b.get("/account"), 200, "ann@leaky.example")
	want(b.form("/product/1/review", "text", "It's \"great\": <3 -- 5/5 & keeps hot; I'd buy 2 or 3 (or more)!"), 302, "")
	want(b.get("/product/1"), 200, "great")
	want(b.get("/cart/add/2"), 302, "")
	want(b.get("/cart/"), 200, "")
	want(b.do("HEAD", "/", ""), 200, "")
	want(b.get("/api/products"), 200, "Enamel mug")
	want(b.get("/tools/calculate?"+query("sum", "1+1")), 200, "2")
	want(b.get("/tools/manual?"+query("file", "flask.txt")), 200, "")
	want(b.get("/tools/go?"+query("to", "/cart/")), 302, "")
	want(b.get("/desk/hello?"+query("name", "Ann O'Neil")), 200, "Hello")
	// Documents, mail and names of fields as they should be.
	want(b.do("POST", "/tools/import", `[{name: 'Jug, the !!new one', description: "Wow!!! Buy", price_cents: !!int 900}]`, "Content-Type", "application/x-yaml"), 200, `"imported": 1`)
	want(b.form("/desk/ask", "name", "Ann", "subject", "Order 5: Kettle & mug", "text", "Hello,\r\n\r\nwhere is it?\r\nIt was due on Monday!\r\n"), 200, `"sent": true`)
	want(b.form("/desk/profile", "name", "Ann O'Neil & Töchter"), 200, `"ok": true`)
	want(b.get("/tools/check?"+query("text", strings.Repeat("Words with blanks between ", 40)+"and an end")), 200, `"valid": true`)
	want(b.get("/desk/find?"+query("pattern", "cl[ae]+n (a|the) fla.*k")), 200, `"found": true`)
	var pic bytes.Buffer
	img := image.NewRGBA(image.Rect(0, 0, 32, 32))
	img.Set(3, 3, color.White)
	if err := imagepng.Encode(&pic, img); err != nil {
		t.Fatal(err)
	}
	body := multipart("b", part{file("me at the sea (1).png", "image/png"), pic.String()})
	want(b.do("POST", "/account/picture", body, "Content-Type", "multipart/form-data; boundary=b"), 302, "")
	if a := b.get("/static/uploads/me%20at%20the%20sea%20(1).png"); a.text != pic.String() {
		t.Errorf("the picture came back with %d as %d bytes of %d", a.StatusCode, len(a.text), pic.Len())
	}
	// Many tabs at once, and pages that change nothing from other sites.
	want(b.get("/product/2", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"), 200, "Copper kettle")
	want(b.get("/account", "Sec-Fetch-Site", "none"), 200, "ann@leaky.example")
	want(b.get("/logout"), 302, "")
	if a := b.get("/account"); a.StatusCode != http.StatusFound && a.StatusCode != http.StatusUnauthorized {
		t.Errorf("after the logout: %d", a.StatusCode)
	}
	want(b.login("ann@leaky.example", "';--my p@ss <word>"), 302, "")
	want(b.get("/account"), 200, "ann@leaky.example")
	all, _ := x.events(0)
	for _, e := range all {
		if e.Verdict == "deny" && e.Path != "/nowhere" && e.Reason != "virtual-patch" {
			t.Errorf("refused: %s %s %s %s", e.Path, e.Layer, e.Reason, e.Detail)
		}
	}
}
