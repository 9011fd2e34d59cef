package lsp

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// document is one that the editor has open.
type document struct {
	path    string
	uri     string // as the editor writes it
	version int64
	text    string
	// lost says that the document could not be followed; until it is opened
	// again, what is on disk counts.
	lost bool
}

// didOpen takes a document over from the disk.
func (s *server) didOpen(params json.RawMessage) error {
	var p struct {
		TextDocument struct {
			URI     string `json:"uri"`
			Version int64  `json:"version"`
			Text    string `json:"text"`
		} `json:"textDocument"`
	}
	if err := decode(params, &p); err != nil {
		return err
	}
	path, err := filePath(p.TextDocument.URI)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.docs[path]
	if d == nil {
		if len(s.docs) >= maxDocuments {
			return fmt.Errorf("%s is left out: more than %d documents are open", path, maxDocuments)
		}
		d = &document{path: path}
		s.docs[path] = d
	}
	d.uri, d.version, d.lost = p.TextDocument.URI, p.TextDocument.Version, false
	err = s.setText(d, p.TextDocument.Text)
	s.touched(path, false)
	return err
}

// setText replaces a document's text within the bounds. s.mu is held.
func (s *server) setText(d *document, text string) error {
	s.open -= len(d.text)
	d.text = ""
	if len(text) > maxDocument || s.open+len(text) > maxOpen {
		d.lost = true
		return fmt.Errorf("%s is not followed: it is too large", d.path)
	}
	d.text = text
	s.open += len(text)
	return nil
}

// didChange follows a document.
func (s *server) didChange(params json.RawMessage) error {
	var p struct {
		TextDocument   documentID `json:"textDocument"`
		ContentChanges []struct {
			Range *textRange `json:"range"`
			Text  string     `json:"text"`
		} `json:"contentChanges"`
	}
	if err := decode(params, &p); err != nil {
		return err
	}
	path, err := filePath(p.TextDocument.URI)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.docs[path]
	if d == nil {
		return fmt.Errorf("%s was not opened", path)
	}
	if p.TextDocument.Version != nil {
		d.version = *p.TextDocument.Version
	}
	now := d.text
	work := 0
	for _, c := range p.ContentChanges {
		if c.Range == nil {
			now, d.lost = c.Text, false
			continue
		}
		if d.lost {
			continue
		}
		if work += len(now) + len(c.Text); work > maxWork {
			d.lost = true
			continue
		}
		t := newText(now)
		from, to := t.offset(c.Range.Start, s.client.encoding), t.offset(c.Range.End, s.client.encoding)
		if from > to {
			from, to = to, from
		}
		if len(now)-(to-from)+len(c.Text) > maxDocument {
			d.lost = true
			continue
		}
		now = now[:from] + c.Text + now[to:]
	}
	if d.lost {
		err = s.setText(d, "")
		d.lost = true
		s.touched(path, true)
		if err == nil {
			err = fmt.Errorf("%s is not followed any more: its changes are too large", path)
		}
		return err
	}
	err = s.setText(d, now)
	s.touched(path, false)
	return err
}

// didClose gives a document back to the disk.
func (s *server) didClose(params json.RawMessage) error {
	var p documentPosition
	if err := decode(params, &p); err != nil {
		return err
	}
	path, err := filePath(p.TextDocument.URI)
	if err != nil {
		return err
	}
	s.mu.Lock()
	d := s.docs[path]
	if d == nil {
		s.mu.Unlock()
		return fmt.Errorf("%s was not opened", path)
	}
	s.open -= len(d.text)
	delete(s.docs, path)
	f, _ := s.folderOf(path)
	var gone *folder
	if f != nil && f.loose && !s.inLoose(f) {
		gone = f
		for i := range s.folders {
			if s.folders[i] == f {
				s.folders = append(s.folders[:i:i], s.folders[i+1:]...)
				break
			}
		}
	} else {
		s.touched(path, true)
	}
	s.mu.Unlock()
	if gone != nil {
		gone.cancel()
		gone.clear()
	}
	return nil
}

// inLoose reports whether a loose folder still has documents. s.mu is held.
func (s *server) inLoose(f *folder) bool {
	for path := range s.docs {
		if g, _ := s.folderOf(path); g == f {
			return true
		}
	}
	return false
}

// touched has the folder of a document audited again. s.mu is held.
func (s *server) touched(path string, disk bool) {
	f, _ := s.folderOf(path)
	if f == nil {
		loose := 0
		for _, f := range s.folders {
			if f.loose {
				loose++
			}
		}
		if s.docs[path] == nil || loose >= maxFolders {
			return
		}
		s.start(filepath.Dir(path), true)
		return
	}
	f.touch(disk)
}

// overlay returns the texts of the open documents of a folder, by their path
// there, with their URIs and versions.
func (s *server) overlay(f *folder) (contents map[string][]byte, docs map[string]document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	contents, docs = map[string][]byte{}, map[string]document{}
	for path, d := range s.docs {
		if g, rel := s.folderOf(path); g == f && !d.lost {
			contents[rel] = []byte(d.text)
			docs[rel] = *d
		}
	}
	return contents, docs
}

// relative returns the slash-separated path of a file below the folder.
func (f *folder) relative(path string) (string, bool) {
	rel, err := filepath.Rel(f.root, path)
	if err != nil || !filepath.IsLocal(rel) || rel == "." {
		return "", false
	}
	rel = filepath.ToSlash(rel)
	if f.loose && strings.Contains(rel, "/") {
		return "", false
	}
	return rel, true
}
