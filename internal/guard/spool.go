package guard

import (
	"fmt"
	"io"
	"os"
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
	// diskStep is how much of the disk's share is taken at a time.
	diskStep = 1 << 20
)

// read gathers what src has. announced is the Content-Length, or negative.
func (b *Body) read(src io.Reader, announced int64) error {
	size := int64(firstRead)
	if announced >= 0 && announced < firstRead {
		size = announced + 1 // the byte more tells its end
	}
	if !b.hold.wantMemory(size) {
		return b.spill(src, nil)
	}
	buf := make([]byte, 0, size)
	for {
		if len(buf) == cap(buf) {
			next := 2 * int64(cap(buf))
			if announced >= 0 && announced < next {
				next = max(announced, int64(cap(buf))) + 1
			}
			if next > bodyInMemory+1 || !b.hold.wantMemory(next-int64(cap(buf))) {
				return b.spill(src, buf)
			}
			buf = append(make([]byte, 0, next), buf...)
		}
		n, err := src.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			b.memory, b.size = buf, int64(len(buf))
			if err == io.EOF {
				err = nil
			}
			return err
		}
	}
}

var spillBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// spill goes on in a file that has no name and goes with the process.
func (b *Body) spill(src io.Reader, begun []byte) error {
	full := func(err error) error { return fmt.Errorf("%w: %w", ErrBodyStorage, err) }
	f, err := os.CreateTemp("", "dewar-body-*") // of mode 0600
	if err != nil {
		b.memory, b.size = begun, int64(len(begun))
		return full(err)
	}
	b.file = f
	if err := os.Remove(f.Name()); err != nil {
		return full(err)
	}
	put := func(p []byte) error {
		for b.size+int64(len(p)) > b.hold.disk {
			if !b.hold.wantDisk(diskStep) {
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
	if err := put(begun); err != nil {
		return err
	}
	b.hold.spool.inMemory.Add(-b.hold.memory)
	b.hold.memory = 0
	space := spillBuffers.Get().(*[32 << 10]byte)
	defer spillBuffers.Put(space)
	for {
		n, err := src.Read(space[:])
		if perr := put(space[:n]); perr != nil {
			return perr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
