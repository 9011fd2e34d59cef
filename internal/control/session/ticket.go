package session

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// ticket is what a sealed cookie holds: the app's own cookie, and what the
// guard must know of the session without asking anybody.
type ticket struct {
	// id names the lineage: the cookies that follow one another between two
	// changes of who the session belongs to.
	id lineage
	// born is when the lineage began, login when its account logged in (zero:
	// it has none), sealed when this cookie was made, until when the app's own
	// Expires or Max-Age ends it (zero: it has neither).
	born, login, sealed, until int64
	// checked is when the session's record was last looked at.
	checked int64
	// account is the app's user id; empty: nobody's session.
	account string
	// rights is a hash of what the session says about rights.
	rights uint64
	// agent and network are hashes of what the client was like at login.
	agent, network uint32
	// attrs are the attributes of the app's Set-Cookie without Expires and
	// Max-Age, to write the cookie anew.
	attrs string
	// unrecorded: the store did not take the session's record.
	unrecorded bool
	// stored: value lies in the store, because it is too large for a cookie.
	stored bool
	// value is the app's own cookie's.
	value string
}

// lineage is a random name. It opens nothing: a cookie is needed for that,
// and the sealing key to make one.
type lineage [10]byte

func newLineage() (id lineage) {
	rand.Read(id[:]) // never fails
	return id
}

var handles = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String returns the handle that logs and operators see.
func (id lineage) String() string { return handles.EncodeToString(id[:]) }

func parseLineage(s string) (id lineage, ok bool) {
	if len(s) != handles.EncodedLen(len(id)) {
		return id, false
	}
	_, err := handles.Decode(id[:], []byte(s))
	return id, err == nil
}

const (
	ticketVersion = 1
	flagStored    = 1
	flagNoRecord  = 2
	flagPacked    = 4
	// maxAccount is how long an account may be; a longer one is cut, which is
	// as good for telling one from another.
	maxAccount = 200
	maxAttrs   = 400
)

var errTicket = errors.New("not a ticket")

// append writes the ticket behind b.
func (t *ticket) append(b []byte) []byte {
	var flags byte
	if t.stored {
		flags |= flagStored
	}
	if t.unrecorded {
		flags |= flagNoRecord
	}
	packed, ok := pack(t.value)
	if ok {
		flags |= flagPacked
	}
	b = append(b, ticketVersion, flags)
	b = append(b, t.id[:]...)
	for _, v := range [...]int64{t.born, t.login, t.sealed, t.until, t.checked} {
		b = binary.AppendUvarint(b, uint64(max(v, 0)))
	}
	b = binary.BigEndian.AppendUint64(b, t.rights)
	b = binary.BigEndian.AppendUint32(b, t.agent)
	b = binary.BigEndian.AppendUint32(b, t.network)
	for _, s := range [...]string{t.account, t.attrs} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	if ok {
		return append(b, packed...)
	}
	return append(b, t.value...)
}

// strictURL has one spelling for each value.
var strictURL = base64.RawURLEncoding.Strict()

// pack takes the base64 out of what itsdangerous signed, which the cookie puts
// around it again: the sealed cookie is hardly longer than the app's. ok is
// false for a value that is not made of base64 and dots alone.
func pack(value string) (b []byte, ok bool) {
	if strings.IndexByte(value, '.') < 0 {
		return nil, false
	}
	b = make([]byte, 0, len(value))
	b = binary.AppendUvarint(b, uint64(strings.Count(value, ".")+1))
	for part := range strings.SplitSeq(value, ".") {
		n := strictURL.DecodedLen(len(part))
		if len(part)%4 == 1 || strings.ContainsAny(part, "\r\n") { // Go skips line ends
			return nil, false
		}
		b = binary.AppendUvarint(b, uint64(n))
		at := len(b)
		b = append(b, make([]byte, n)...)
		if _, err := strictURL.Decode(b[at:], []byte(part)); err != nil {
			return nil, false
		}
	}
	return b, true
}

// unpack is the inverse of pack.
func unpack(b []byte) (string, error) {
	parts, size := binary.Uvarint(b)
	if size <= 0 || parts > uint64(len(b)) {
		return "", errTicket
	}
	b = b[size:]
	out := make([]byte, 0, len(b)*4/3+8)
	for i := range parts {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return "", errTicket
		}
		if i > 0 {
			out = append(out, '.')
		}
		out = strictURL.AppendEncode(out, b[size:size+int(n)])
		b = b[size+int(n):]
	}
	if len(b) > 0 {
		return "", errTicket
	}
	return string(out), nil
}

// read is the inverse of append.
func (t *ticket) read(b []byte) error {
	if len(b) < 2+len(t.id) || b[0] != ticketVersion {
		return errTicket
	}
	packed := b[1]&flagPacked != 0
	t.stored, t.unrecorded = b[1]&flagStored != 0, b[1]&flagNoRecord != 0
	copy(t.id[:], b[2:])
	b = b[2+len(t.id):]
	for _, v := range [...]*int64{&t.born, &t.login, &t.sealed, &t.until, &t.checked} {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > 1<<62 {
			return errTicket
		}
		*v, b = int64(n), b[size:]
	}
	if len(b) < 16 {
		return errTicket
	}
	t.rights, t.agent, t.network = binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	b = b[16:]
	rest := string(b) // one allocation for the three texts
	for _, s := range [...]*string{&t.account, &t.attrs} {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return errTicket
		}
		*s = rest[size : size+int(n)]
		b, rest = b[size+int(n):], rest[size+int(n):]
	}
	if packed {
		var err error
		t.value, err = unpack(b)
		return err
	}
	t.value = rest
	return nil
}

// attrsOf returns the attributes that a cookie written anew shall have.
func attrsOf(c setCookie) string {
	var b strings.Builder
	for _, a := range c.attrs {
		switch a.name {
		case "expires", "max-age", "":
			continue
		}
		b.WriteByte(';')
		b.WriteString(a.text)
	}
	if b.Len() > maxAttrs {
		return "; Path=/"
	}
	return b.String()
}

// untilOf returns when the app's cookie ends, as browsers reckon (RFC 6265bis,
// 5.6): Max-Age before Expires, 400 days at most. Zero: with the browser.
func untilOf(c setCookie, now time.Time) int64 {
	at, ok := expiryOf(c, now)
	if !ok {
		return 0
	}
	return min(at.Unix(), now.Add(400*24*time.Hour).Unix())
}
