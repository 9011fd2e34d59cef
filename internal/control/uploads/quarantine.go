package uploads

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/formdata"
	"github.com/dewar-security/dewar/internal/guard"
)

// Record says what is known of a file in quarantine.
type Record struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Reason   string    `json:"reason"`
	Name     string    `json:"name"`
	Size     int64     `json:"size"`
	Detail   string    `json:"detail"`
	Type     string    `json:"type"` // as the client gave it
	SHA256   string    `json:"sha256"`
	Request  string    `json:"request"`
	Path     string    `json:"path"`
	Client   string    `json:"client"`
	Account  string    `json:"account"`
	Released bool      `json:"released"`
}

// Bounds of the quarantine besides the operator's. Small files take more of a
// disk than their bytes, and whoever sends bad ones must not make each of them
// cost a look at all the others.
const (
	// maxRecords is the most files that are kept.
	maxRecords = 10_000
	// pruneEvery is how long what is in the folder is remembered: another
	// process may have changed it.
	pruneEvery = time.Minute
)

// quarantine keeps refused files in a folder: ID.bin and ID.json, of mode
// 0600, within bounds of age, bytes and number. The name that the client chose
// is in the record only. Several processes may share a folder.
type quarantine struct {
	dir      string
	age      time.Duration
	most     int64
	now      func() time.Time
	mu       sync.Mutex
	released map[string]bool // by SHA-256

	// What was in the folder when it was last looked through, and has come
	// since.
	bytes  int64
	count  int
	looked time.Time
	// waiting is what lies there for the scanner, reserved what is just being
	// written for it. Both count as what is kept does.
	waiting, reserved int64
}

var (
	recordID = regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{26}$`)
	sha256ID = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// releasedFile lists what the operator lets pass, one SHA-256 a line.
const releasedFile = "released"

// openQuarantine makes the folder. It must be nobody else's: what lies in it
// is malware.
func openQuarantine(dir string, age time.Duration, most int64, now func() time.Time) (*quarantine, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("uploads.quarantine: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("uploads.quarantine: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("uploads.quarantine: others may look into %s (mode %04o): chmod 700 it", dir, info.Mode().Perm())
	}
	q := &quarantine{dir: dir, age: age, most: most, now: now}
	if _, q.waiting, err = q.waitingFiles(); err != nil {
		return nil, fmt.Errorf("uploads.quarantine: %w", err)
	}
	return q, q.readReleased()
}

func (q *quarantine) readReleased() error {
	released := map[string]bool{}
	f, err := os.Open(filepath.Join(q.dir, releasedFile))
	if err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if line := strings.TrimSpace(s.Text()); sha256ID.MatchString(line) {
				released[line] = true
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("uploads.quarantine: %w", err)
	}
	q.mu.Lock()
	q.released = released
	q.mu.Unlock()
	return nil
}

func (q *quarantine) isReleased(sum string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.released[sum]
}

func (q *quarantine) file(id, ext string) string { return filepath.Join(q.dir, id+ext) }

// put keeps a file. It makes room for it by deleting the oldest; a file that
// is larger than the whole quarantine is an error.
func (q *quarantine) put(rec Record, src io.Reader) (Record, error) {
	if rec.Size > q.most {
		return rec, fmt.Errorf("%d bytes are more than the quarantine holds", rec.Size)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.room(rec.Size); err != nil {
		return rec, err
	}
	if rec.Size > q.most-q.waiting-q.reserved {
		q.bytes, q.count = q.bytes-rec.Size, q.count-1
		return rec, fmt.Errorf("%d bytes are more than the quarantine holds beside the %d that wait for the scanner", rec.Size, q.waiting+q.reserved)
	}
	now := q.now()
	rec.ID, rec.Time = event.NewID(now), now.UTC().Truncate(time.Second)
	if err := writeNew(q.file(rec.ID, ".bin"), src); err != nil {
		return rec, err
	}
	return rec, q.save(rec)
}

// writeNew writes a file of mode 0600 that was not there, whole or not at all.
func writeNew(name string, src io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, src)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(name)
	}
	return err
}

// save writes a record, over the one that was there.
func (q *quarantine) save(rec Record) error { return q.saveAs(rec, ".json") }

// saveWaiting writes the record of a file that waits for the scanner.
func (q *quarantine) saveWaiting(rec Record) error { return q.saveAs(rec, ".wait-record") }

func (q *quarantine) saveAs(rec Record, ext string) error {
	b, err := json.MarshalIndent(rec, "", "\t")
	if err != nil {
		return err
	}
	temporary := q.file(rec.ID, ext+".new")
	os.Remove(temporary)
	if err := writeNew(temporary, strings.NewReader(string(b)+"\n")); err != nil {
		return err
	}
	return os.Rename(temporary, q.file(rec.ID, ext))
}

// wait keeps a file for the scanner. What waits counts as what is kept does,
// and the oldest of what is kept makes room for it; but it takes no more than
// half of the quarantine, so that many uploads do not push out everything that
// was found bad before. An error says that there is no room.
func (q *quarantine) wait(id string, size int64, src io.Reader) error {
	q.mu.Lock()
	if size > q.most/2-q.waiting-q.reserved {
		// Others may have scanned what was there.
		err := q.prune(0)
		if err == nil && size > q.most/2-q.waiting-q.reserved {
			err = fmt.Errorf("%d bytes wait for the scanner already, and half of quarantine-size is the most", q.waiting+q.reserved)
		}
		if err != nil {
			q.mu.Unlock()
			return err
		}
	}
	if q.bytes+q.waiting+q.reserved+size > q.most {
		if err := q.prune(size); err != nil {
			q.mu.Unlock()
			return err
		}
	}
	q.reserved += size
	q.mu.Unlock()
	err := writeNew(q.file(id, ".wait"), src)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.reserved -= size; err == nil {
		q.waiting += size
	}
	return err
}

// forget deletes a file that waited.
func (q *quarantine) forget(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unwait(id)
	os.Remove(q.file(id, ".wait"))
	os.Remove(q.file(id, ".wait-record"))
}

// unwait takes a file out of the count of what waits.
func (q *quarantine) unwait(id string) {
	if info, err := os.Stat(q.file(id, ".wait")); err == nil {
		q.waiting = max(0, q.waiting-info.Size())
	}
}

// waitingFiles returns the ids of what waits, and how many bytes that is.
func (q *quarantine) waitingFiles() (ids []string, bytes int64, err error) {
	entries, err := os.ReadDir(q.dir)
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".wait")
		if !ok || !recordID.MatchString(id) {
			continue
		}
		if info, err := e.Info(); err == nil {
			ids, bytes = append(ids, id), bytes+info.Size()
		}
	}
	return ids, bytes, err
}

// waitingRecord reads the record of a file that waits for the scanner.
func (q *quarantine) waitingRecord(id string) (rec Record, err error) {
	b, err := os.ReadFile(q.file(id, ".wait-record"))
	if err == nil {
		err = json.Unmarshal(b, &rec)
	}
	return rec, err
}

// take moves a file that waited into the quarantine.
func (q *quarantine) take(id, signature string) (Record, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rec, err := q.waitingRecord(id)
	if err != nil {
		return rec, err
	}
	rec.ID, rec.Reason, rec.Detail = id, "file-malware", signature
	q.unwait(id) // its bytes are those that it takes from now on
	if err := q.room(rec.Size); err != nil {
		return rec, err
	}
	if err := os.Rename(q.file(id, ".wait"), q.file(id, ".bin")); err != nil {
		return rec, err
	}
	os.Remove(q.file(id, ".wait-record"))
	return rec, q.save(rec)
}

// records returns what is there, oldest first.
func (q *quarantine) records() ([]Record, error) {
	entries, err := os.ReadDir(q.dir)
	if err != nil {
		return nil, err
	}
	var out []Record
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !recordID.MatchString(id) {
			continue
		}
		if rec, err := q.get(id); err == nil {
			out = append(out, rec)
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

func (q *quarantine) get(id string) (rec Record, err error) {
	if !recordID.MatchString(id) {
		return rec, fmt.Errorf("%q is no id of a file in quarantine", id)
	}
	b, err := os.ReadFile(q.file(id, ".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return rec, fmt.Errorf("there is no file %s in quarantine", id)
	}
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return rec, fmt.Errorf("the record of %s: %w", id, err)
	}
	rec.ID = id
	return rec, nil
}

func (q *quarantine) delete(id string) error {
	if _, err := q.get(id); err != nil {
		return err
	}
	err := os.Remove(q.file(id, ".bin"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if rerr := os.Remove(q.file(id, ".json")); err == nil {
		err = rerr
	}
	return err
}

// room makes room for one more file of so many bytes, and counts it.
func (q *quarantine) room(more int64) error {
	if d := q.now().Sub(q.looked); d < 0 || d > pruneEvery || q.bytes+q.waiting+q.reserved+more > q.most || q.count >= maxRecords {
		if err := q.prune(more); err != nil {
			return err
		}
	}
	q.bytes, q.count = q.bytes+more, q.count+1
	return nil
}

// prune looks through the folder and deletes what is too old, and the oldest
// until so many more bytes fit. Of many files it deletes some more, so that
// the next ones find room without another look.
func (q *quarantine) prune(more int64) error {
	records, err := q.records()
	if err != nil {
		return err
	}
	bytes, count := int64(0), len(records)
	for _, r := range records {
		bytes += r.Size
	}
	if _, q.waiting, err = q.waitingFiles(); err != nil {
		return err
	}
	whole := q.most - q.waiting - q.reserved
	most, number := whole-more, maxRecords-1
	if few := maxRecords / 10; count > few && (bytes > most || count > number) {
		most, number = min(most, whole-whole/10), maxRecords-few
	}
	for _, r := range records {
		if bytes <= most && count <= number && q.now().Sub(r.Time) <= q.age {
			continue
		}
		if err := q.delete(r.ID); err != nil {
			return err
		}
		bytes, count = bytes-r.Size, count-1
	}
	q.bytes, q.count, q.looked = bytes, count, q.now()
	return nil
}

// keep prunes every hour until stop is closed.
func (q *quarantine) keep(stop <-chan struct{}) {
	for {
		q.mu.Lock()
		_ = q.prune(0) // what cannot be deleted now is tried again, and put says so
		q.mu.Unlock()
		select {
		case <-time.After(time.Hour):
		case <-stop:
			return
		}
	}
}

// release lets the same file pass from now on, and writes a copy to a path
// when one is given.
func (q *quarantine) release(id, to string) (Record, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rec, err := q.get(id)
	if err != nil {
		return rec, err
	}
	if to != "" {
		if !filepath.IsAbs(to) {
			return rec, fmt.Errorf("%q: give an absolute path: the guard writes the file, not this command", to)
		}
		src, err := os.Open(q.file(id, ".bin"))
		if err != nil {
			return rec, err
		}
		defer src.Close()
		if err := writeNew(to, src); err != nil {
			return rec, err
		}
	}
	if !sha256ID.MatchString(rec.SHA256) {
		return rec, fmt.Errorf("the record of %s has no SHA-256", id)
	}
	if !q.released[rec.SHA256] {
		f, err := os.OpenFile(filepath.Join(q.dir, releasedFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return rec, err
		}
		_, err = f.WriteString(rec.SHA256 + "\n")
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return rec, err
		}
		q.released[rec.SHA256] = true
	}
	rec.Released = true
	return rec, q.save(rec)
}

// recordOf is what a request says of a file.
func recordOf(x *guard.Exchange, p *formdata.Part, reason, detail, sum string) Record {
	return Record{
		Reason: reason, Detail: detail, Name: p.FileName(), Type: p.Type, Size: p.Size, SHA256: sum,
		Request: x.ID, Path: x.Path, Client: x.Client.Addr.String(), Account: x.Identity.Account,
	}
}

var quarantineCommands = []guard.Command{
	{Name: "quarantine list", Does: "List the files in quarantine, oldest first."},
	{Name: "quarantine show", Does: "Show what is known of one file in quarantine.", Args: []guard.Arg{{Name: "id", Does: "its id"}}},
	{Name: "quarantine release", Does: "Let the same file pass from now on.", Changes: true, Args: []guard.Arg{
		{Name: "id", Does: "its id"}, {Name: "to", Does: "absolute path of a new file that the guard writes a copy to", Optional: true},
	}},
	{Name: "quarantine delete", Does: "Delete one file in quarantine.", Changes: true, Args: []guard.Arg{{Name: "id", Does: "its id"}}},
}

// listed is one line of "quarantine list".
type listed struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Reason   string    `json:"reason"`
	Name     string    `json:"name"`
	Size     int64     `json:"size"`
	Client   string    `json:"client"`
	Released bool      `json:"released"`
}

// Operate implements [guard.Operator].
func (l *Files) Operate(_ context.Context, command string, args map[string]string) (any, error) {
	q := l.quarantine
	if q == nil {
		return nil, errors.New("no quarantine is set: uploads.quarantine names its folder")
	}
	switch command {
	case "quarantine list":
		q.mu.Lock()
		defer q.mu.Unlock()
		if err := q.prune(0); err != nil {
			return nil, err
		}
		records, err := q.records()
		out := []listed{}
		for _, r := range records {
			out = append(out, listed{r.ID, r.Time, r.Reason, r.Name, r.Size, r.Client, r.Released})
		}
		return out, err
	case "quarantine show":
		return q.get(args["id"])
	case "quarantine release":
		return q.release(args["id"], args["to"])
	case "quarantine delete":
		q.mu.Lock()
		defer q.mu.Unlock()
		rec, err := q.get(args["id"])
		if err != nil {
			return nil, err
		}
		if err := q.delete(rec.ID); err != nil {
			return nil, err
		}
		l.env.Publish(event.Event{Name: "upload_delete", Severity: event.Info, Control: "uploads", Layer: filesSpec.Name, Detail: "deleted from quarantine", Attributes: map[string]string{"quarantine": rec.ID, "sha256": rec.SHA256}})
		return rec, nil
	}
	return nil, guard.ErrNoCommand
}
