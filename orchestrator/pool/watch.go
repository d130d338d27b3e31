package pool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Dir is a directory of pools, one in each file that ends in .yaml. A file that changes is read and checked, and its pool is
// swapped whole; where it has a fault, the last good one stays in force and the fault is told. The pool of a file that is
// removed is gone.
type Dir struct {
	path string
	// changed is told the name of each file whose pool or fault has changed.
	changed func(file string)

	mu      sync.Mutex
	entries map[string]entry
}

type entry struct {
	content []byte
	pool    *Pool
	// text is what the pool was read from; content may have a fault since.
	text  []byte
	fault error
}

const (
	// settle is how long a directory must be quiet before it is read: editors write a file in several steps.
	settle = 100 * time.Millisecond
	// readAnyway is for changes that the kernel does not tell of, as on network file systems.
	readAnyway = 30 * time.Second
)

// Open reads a directory. Faults in files are not an error here: they are told by Faults.
func Open(path string, changed func(file string)) (*Dir, error) {
	d := &Dir{path: path, changed: changed, entries: map[string]entry{}}
	if err := d.read(); err != nil {
		return nil, err
	}
	return d, nil
}

// Pools are those in force, by name. They must not be changed.
func (d *Dir) Pools() map[string]*Pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	pools := map[string]*Pool{}
	for _, e := range d.entries {
		if e.pool != nil {
			pools[e.pool.Name] = e.pool
		}
	}
	return pools
}

// Text is the file that a pool in force was read from, and what stood in it.
func (d *Dir) Text(name string) (file string, text []byte, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for file, e := range d.entries {
		if e.pool != nil && e.pool.Name == name {
			return file, bytes.Clone(e.text), true
		}
	}
	return "", nil, false
}

// Faults are what is wrong with files, by their names. The pool that such a file held before may still be in force.
func (d *Dir) Faults() map[string]error {
	d.mu.Lock()
	defer d.mu.Unlock()
	faults := map[string]error{}
	for file, e := range d.entries {
		if e.fault != nil {
			faults[file] = e.fault
		}
	}
	return faults
}

// Run follows the directory until ctx ends.
func (d *Dir) Run(ctx context.Context) error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch pools: %w", err)
	}
	defer watch.Close()
	if err := watch.Add(d.path); err != nil {
		return fmt.Errorf("watch pools in %s: %w", d.path, err)
	}
	timer := time.NewTimer(0) // what changed between Open and here
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watch.Events:
			if !ok {
				return errors.New("watch pools: the watch has ended")
			}
			timer.Reset(settle)
		case err := <-watch.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch pools in %s: %w", d.path, err)
			}
			timer.Reset(settle)
		case <-timer.C:
			timer.Reset(readAnyway)
			if err := d.read(); err != nil {
				return err
			}
		}
	}
}

// read takes in every file that is not as it was.
func (d *Dir) read() error {
	if _, err := os.Stat(d.path); err != nil {
		return fmt.Errorf("pools: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(d.path, "*.yaml"))
	if err != nil {
		return fmt.Errorf("pools in %s: %w", d.path, err)
	}
	d.mu.Lock()
	next := maps.Clone(d.entries)
	d.mu.Unlock()
	var differ []string
	for file := range next {
		if !slices.Contains(files, file) {
			delete(next, file)
			differ = append(differ, file)
		}
	}
	differ = append(differ, takeAll(files, next)...)
	d.mu.Lock()
	d.entries = next
	d.mu.Unlock()
	for _, file := range differ {
		if d.changed != nil {
			d.changed(file)
		}
	}
	return nil
}

// takeAll brings the entries to what the files hold, and returns those that differ.
func takeAll(files []string, entries map[string]entry) (differ []string) {
	slices.Sort(files)
	var again []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since; the watch tells
		}
		before, known := entries[file]
		if known && err == nil && before.content != nil && bytes.Equal(before.content, content) {
			if isTaken(before.fault) {
				again = append(again, file)
			}
			continue
		}
		entries[file] = take(file, content, err, before, entries)
		differ = append(differ, file)
	}
	// What another file had claimed may be free now.
	for _, file := range again {
		e := take(file, entries[file].content, nil, entries[file], entries)
		if e.fault == nil || e.fault.Error() != entries[file].fault.Error() {
			entries[file] = e
			differ = append(differ, file)
		}
	}
	return differ
}

// take is what becomes of a file that was read; before is what it was, others are the other files.
func take(file string, content []byte, err error, before entry, others map[string]entry) entry {
	next := entry{content: content, pool: before.pool, text: before.text}
	if err != nil {
		next.content, next.fault = nil, fmt.Errorf("read pool: %w", err)
		return next
	}
	p, err := Parse(file, content)
	if err != nil {
		next.fault = err
		return next
	}
	if err := taken(file, p, others); err != nil {
		next.fault = err
		return next
	}
	next.pool, next.text = p, content
	return next
}

// takenError is a fault that another file's change may clear.
type takenError struct{ Faults }

func isTaken(err error) bool {
	var t takenError
	return errors.As(err, &t)
}

// taken says what a pool and those of other files both claim.
func taken(file string, p *Pool, others map[string]entry) error {
	for _, other := range slices.Sorted(maps.Keys(others)) {
		q := others[other].pool
		if other == file || q == nil {
			continue
		}
		if q.Name == p.Name {
			return takenError{Faults{{File: file, Key: "name", Message: fmt.Sprintf("%s describes the pool %q already", other, p.Name), Remedy: "give one of them another name"}}}
		}
		for _, name := range p.Hosts.Names {
			if slices.Contains(q.Hosts.Names, name) {
				return takenError{Faults{{File: file, Key: "hosts.names", Message: fmt.Sprintf("host %s belongs to the pool %q in %s", name, q.Name, other), Remedy: "let a host belong to one pool"}}}
			}
		}
	}
	return nil
}
