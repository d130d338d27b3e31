package packages

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Memory is what a host remembers about its sources from one look to the next, in a file: without it an archive, or somebody
// on the way to it, could hand out old metadata again, correctly signed.
type Memory struct {
	path string
	mu   sync.Mutex
}

// NewMemory keeps it in the file of that path, which need not exist yet.
func NewMemory(path string) *Memory { return &Memory{path: path} }

// Path is where it lies.
func (m *Memory) Path() string { return m.path }

// Remembered is the memory's content.
type Remembered struct {
	// Newest is the latest date of metadata that was ever verified, by source.
	Newest map[string]time.Time `json:"newest"`
	// Refreshed is when the sources were last asked.
	Refreshed time.Time `json:"refreshed"`
	// Confirmed is when a source last answered, by source.
	Confirmed map[string]time.Time `json:"confirmed"`
	// Failures is what went wrong at the last refresh, by source.
	Failures map[string]Failure `json:"failures"`
}

// Failure is what went wrong with a source.
type Failure struct {
	Text string `json:"text"`
	// Had is when what lay here then was written. Once something newer lies here, somebody else has refreshed the source.
	Had time.Time `json:"had"`
}

// Failed is what went wrong with a source of which what lies here was written at a moment; empty where that was mended since.
func (r Remembered) Failed(source string, written time.Time) string {
	f := r.Failures[source]
	if written.After(f.Had) {
		return ""
	}
	return f.Text
}

// Read returns what is remembered. A file that cannot be understood is an error: it must not be forgotten silently.
func (m *Memory) Read() (Remembered, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read()
}

func (m *Memory) read() (Remembered, error) {
	known := Remembered{}
	data, err := os.ReadFile(m.path)
	if err == nil {
		err = json.Unmarshal(data, &known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return known, fmt.Errorf("memory of package sources %s: %w; remove the file to begin anew", m.path, err)
	}
	for _, of := range []*map[string]time.Time{&known.Newest, &known.Confirmed} {
		if *of == nil {
			*of = make(map[string]time.Time)
		}
	}
	return known, nil
}

// See notes the date of metadata that was verified, and returns the latest that was ever seen of that source.
func (m *Memory) See(source string, date time.Time) (time.Time, error) {
	var newest time.Time
	err := m.Update(func(known *Remembered) bool {
		newest = known.Newest[source]
		if !date.After(newest) {
			return false
		}
		known.Newest[source], newest = date, date
		return true
	})
	return newest, err
}

// Update changes what is remembered, where change says that it did.
func (m *Memory) Update(change func(*Remembered) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, err := m.read()
	if err != nil || !change(&known) {
		return err
	}
	data, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.path), 0o700); err != nil {
		return fmt.Errorf("memory of package sources: %w", err)
	}
	tmp := m.path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("memory of package sources: %w", err)
	}
	return os.Rename(tmp, m.path)
}
