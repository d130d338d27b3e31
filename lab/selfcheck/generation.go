package selfcheck

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Generation is what a generation directory says.
type Generation struct {
	Counter    uint64  `json:"counter"`    // beats of all copies that ever ran there
	Violations uint64  `json:"violations"` // beats at which a copy found that another one had been running
	Events     []Event `json:"events,omitempty"`
}

// Event is a line of the log beside the counter.
type Event struct {
	Time     time.Time `json:"time"`
	Instance string    `json:"instance"`
	What     string    `json:"what"`    // started, resumed or violation
	Counter  uint64    `json:"counter"` // found
	Expected uint64    `json:"expected"`
	Gap      float64   `json:"gap_ms,omitempty"` // how long the copy stood still before
}

// The counter file is one page that every copy maps. Its size never changes, and the log is opened only to append to it,
// so that a checkpoint finds both as it left them.
const (
	counterFile     = "generation"
	logFile         = "generation.log"
	counterSize     = 4096
	counterOffset   = 0
	violationOffset = 64
	resumeGap       = 100 * time.Millisecond
)

// Beater advances the counter and finds out other copies.
//
// Each beat adds one to the counter in the shared page with a single atomic instruction, which also returns what was there
// before. That must be what this copy left there at its last beat, which it knows from its own memory. A copy made by
// checkpoint and restore has the same memory, and so the same expectation: whichever of two copies beats second finds a
// value that it did not write, however their beats interleave, and also if the two never ran at the same time but the
// older one was resumed later.
type Beater struct {
	dir      string
	page     []byte
	instance string
	expected uint64
	last     time.Time
}

// NewBeater begins to beat in a directory that all copies share, as a new instance: whoever beat there before must have
// ended.
func NewBeater(dir, instance string) (*Beater, error) {
	page, err := mapCounter(dir)
	if err != nil {
		return nil, err
	}
	b := &Beater{dir: dir, page: page, instance: instance, last: time.Now()}
	b.expected = b.word(counterOffset).Load()
	return b, b.log(Event{What: "started", Counter: b.expected, Expected: b.expected})
}

func mapCounter(dir string) ([]byte, error) {
	file, err := os.OpenFile(filepath.Join(dir, counterFile), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("selfcheck: generation directory: %w", err)
	}
	defer file.Close()
	if err := file.Truncate(counterSize); err != nil {
		return nil, fmt.Errorf("selfcheck: generation directory: %w", err)
	}
	page, err := unix.Mmap(int(file.Fd()), 0, counterSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("selfcheck: map %s: %w", file.Name(), err)
	}
	return page, nil
}

// Beat advances the counter once. It must be called every few milliseconds, by one goroutine. An error means that a
// violation could not be logged; it is counted all the same.
func (b *Beater) Beat() error {
	found := b.word(counterOffset).Add(1) - 1
	expected := b.expected
	b.expected = found + 1
	now := time.Now()
	gap := now.Sub(b.last)
	b.last = now
	event := Event{Counter: found, Expected: expected, Gap: gap.Seconds() * 1000}
	if found != expected {
		b.word(violationOffset).Add(1)
		event.What = "violation"
		return b.log(event)
	}
	if gap > resumeGap {
		event.What = "resumed"
		return b.log(event)
	}
	return nil
}

// Generation returns the counters as they are.
func (b *Beater) Generation() Generation {
	return Generation{Counter: b.word(counterOffset).Load(), Violations: b.word(violationOffset).Load()}
}

func (b *Beater) word(offset int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&b.page[offset]))
}

func (b *Beater) log(event Event) error {
	event.Time, event.Instance = time.Now().UTC(), b.instance
	line, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("selfcheck: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(b.dir, logFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return fmt.Errorf("selfcheck: log %s: %w", event.What, err)
	}
	_, err = file.Write(append(line, '\n'))
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("selfcheck: log %s: %w", event.What, err)
	}
	return nil
}

// ReadGeneration returns what the copies that share a directory left there. It may be called while they run. The zero
// Generation means that none has begun yet.
func ReadGeneration(dir string) (Generation, error) {
	page, err := os.ReadFile(filepath.Join(dir, counterFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Generation{}, nil
	}
	if err != nil || len(page) != counterSize {
		return Generation{}, fmt.Errorf("selfcheck: the counter in %s is not readable: %w", dir, err)
	}
	g := Generation{
		Counter:    binary.NativeEndian.Uint64(page[counterOffset:]),
		Violations: binary.NativeEndian.Uint64(page[violationOffset:]),
	}
	log, err := os.ReadFile(filepath.Join(dir, logFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Generation{}, fmt.Errorf("selfcheck: %w", err)
	}
	for line := range bytes.Lines(log) {
		var event Event
		if err := json.Unmarshal(line, &event); err != nil {
			return Generation{}, fmt.Errorf("selfcheck: the log in %s holds %q: %w", dir, line, err)
		}
		g.Events = append(g.Events, event)
	}
	return g, nil
}

// NewInstance draws the name of an instance.
func NewInstance() string { return rand.Text()[:12] }
