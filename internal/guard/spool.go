package guard

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// Spool bounds what request bodies may take while they are gathered: memory
// first, an unlinked file of mode 0600 when a body is large or memory is
// short, an error when the disk's share is used up, too. So ten thousand slow
// uploads cost what is written here, and not ten thousand times the largest
// body (CWE-770). A Spool is shared by all requests.
type Spool struct {
	memory, disk     int64
	inMemory, onDisk atomic.Int64
}

// NewSpool returns a Spool of so many bytes; 0 means 64 MiB of memory and 4
// GiB of disk.
func NewSpool(memory, disk Size) *Spool {
	if memory <= 0 {
		memory = 64 << 20
	}
	if disk <= 0 {
		disk = 4 << 30
	}
	return &Spool{memory: int64(memory), disk: int64(disk)}
}

var defaultSpool = NewSpool(0, 0)

// Used returns how many bytes bodies take now.
func (s *Spool) Used() (memory, disk Size) {
	return Size(s.inMemory.Load()), Size(s.onDisk.Load())
}

func acquire(used *atomic.Int64, n, most int64) bool {
	if used.Add(n) <= most {
		return true
	}
	used.Add(-n)
	return false
}

// holding is what one body has taken of the spool.
type holding struct {
	spool        *Spool
	memory, disk int64
}

func (h *holding) wantMemory(n int64) bool {
	if !acquire(&h.spool.inMemory, n, h.spool.memory) {
		return false
	}
	h.memory += n
	return true
}

func (h *holding) wantDisk(n int64) bool {
	if !acquire(&h.spool.onDisk, n, h.spool.disk) {
		return false
	}
	h.disk += n
	return true
}

// giveBack returns n bytes of memory.
func (h *holding) giveBack(n int64) {
	h.spool.inMemory.Add(-n)
	h.memory -= n
}

func (h *holding) release() {
	if h.spool == nil {
		return
	}
	h.spool.inMemory.Add(-h.memory)
	h.spool.onDisk.Add(-h.disk)
	h.memory, h.disk = 0, 0
}

const (
	// bodyInMemory is the most of one body that stays in memory.
	bodyInMemory = 1 << 20
	// firstRead is the buffer that a body begins with: what a client has
	// only announced costs no memory.
	firstRead = 1 << 10
	// diskStep is how much of the disk's share is taken at a time: as much
	// as the file has already, from the one to the other.
	leastStep, diskStep = 64 << 10, 1 << 20
	// A body on its way to disk is waited for with a small buffer, and read
	// with a large one, out of the shared memory, while it comes fast.
	waitBuffer, fastBuffer = 512, 32 << 10
	fastRead               = 4 << 10
)

// read gathers what src has. announced is the Content-Length, or negative.
//
// It reads into pieces, each as large as those before together, so that no
// piece is copied while a client makes the guard wait, and nothing is left to
// the garbage collector.
func (b *Body) read(src io.Reader, announced int64) error {
	size := int64(firstRead)
	if announced >= 0 && announced < firstRead {
		size = announced + 1 // the byte more tells its end
	}
	if !b.hold.wantMemory(size) {
		return b.spill(src, nil)
	}
	pieces, room := [][]byte{make([]byte, 0, size)}, size
	for {
		last := &pieces[len(pieces)-1]
		if len(*last) == cap(*last) {
			next := room
			if announced >= 0 && announced < room+next {
				next = max(announced-room, 0) + 1
			}
			if room+next > bodyInMemory+1 || !b.hold.wantMemory(next) {
				return b.spill(src, pieces)
			}
			room += next
			pieces = append(pieces, make([]byte, 0, next))
			continue
		}
		n, err := src.Read((*last)[len(*last):cap(*last)])
		*last = (*last)[:len(*last)+n]
		if err != nil {
			b.join(pieces)
			if err == io.EOF {
				err = nil
			}
			return err
		}
	}
}

// join makes one piece of those that were read.
func (b *Body) join(pieces [][]byte) {
	b.memory = nil
	if len(pieces) > 0 {
		b.memory = pieces[0]
	}
	if len(pieces) > 1 {
		b.memory = slices.Concat(pieces...)
		b.hold.giveBack(b.hold.memory - int64(cap(b.memory)))
	}
	b.size = int64(len(b.memory))
}

var fastBuffers = sync.Pool{New: func() any { return new([fastBuffer]byte) }}

// spill goes on in a file that has no name and goes with the process.
func (b *Body) spill(src io.Reader, begun [][]byte) error {
	full := func(err error) error { return fmt.Errorf("%w: %w", ErrBodyStorage, err) }
	f, err := os.CreateTemp("", "dewar-body-*") // of mode 0600
	if err != nil {
		b.join(begun)
		return full(err)
	}
	b.file = f
	if err := os.Remove(f.Name()); err != nil {
		return full(err)
	}
	put := func(p []byte) error {
		for b.size+int64(len(p)) > b.hold.disk {
			if !b.hold.wantDisk(min(max(b.hold.disk, leastStep), diskStep)) {
				return full(fmt.Errorf("request bodies take %v of disk, which is all they may", Size(b.hold.spool.onDisk.Load())))
			}
		}
		n, err := f.Write(p)
		b.size += int64(n)
		if err != nil {
			return full(err)
		}
		return nil
	}
	for _, p := range begun {
		if err := put(p); err != nil {
			return err
		}
	}
	b.hold.giveBack(b.hold.memory)
	small := make([]byte, waitBuffer)
	var fast *[fastBuffer]byte
	release := func() {
		if fast != nil {
			fastBuffers.Put(fast)
			fast = nil
			b.hold.giveBack(fastBuffer)
		}
	}
	defer release()
	for {
		space := small
		if fast != nil {
			space = fast[:]
		}
		n, err := src.Read(space)
		if perr := put(space[:n]); perr != nil {
			return perr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case fast == nil && n == len(space) && b.hold.wantMemory(fastBuffer):
			fast = fastBuffers.Get().(*[fastBuffer]byte)
		case fast != nil && n < fastRead:
			release()
		}
	}
}
