package waf

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/dewar-security/dewar/internal/payload"
)

// quiet remembers in which values the judges that go by grammar found nothing:
// a browser sends the same header fields with every request, and most
// parameters are said again. It holds at most quietSlots values of quietLength
// bytes, 4 MB in the worst case; a value that falls on another's place
// takes it. Only silence is remembered, under the whole value, the place and
// the kinds, so that nothing a visitor sends can make another's pass. The
// zero quiet is ready; it is safe for concurrent use.
type quiet struct {
	slots [quietSlots]atomic.Pointer[quietValue]
}

const (
	quietSlots  = 8192
	quietLength = 512
	// quietShort is the length below which judging costs no more than
	// remembering.
	quietShort = 8
)

type quietValue struct {
	text  string
	place payload.Place
	kinds payload.Kinds
}

var quietSeed = maphash.MakeSeed()

// judge is [payload.JudgeKinds].
func (q *quiet) judge(text string, place payload.Place, kinds payload.Kinds) []payload.Finding {
	if len(text) < quietShort || len(text) > quietLength {
		return payload.JudgeKinds(text, place, kinds)
	}
	h := maphash.String(quietSeed, text) + uint64(place)*31 + uint64(kinds)*131
	slot := &q.slots[h%quietSlots]
	if v := slot.Load(); v != nil && v.place == place && v.kinds == kinds && v.text == text {
		return nil
	}
	found := payload.JudgeKinds(text, place, kinds)
	if found == nil {
		// A copy: the text may be a piece of a large body.
		slot.Store(&quietValue{strings.Clone(text), place, kinds})
	}
	return found
}
