package owner

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

var (
	// ErrUnknown: the store did not answer. A read has no result; a write may have happened, may still happen, or not.
	ErrUnknown = errors.New("outcome unknown: the store did not answer")
	// ErrConflict: the record has changed since it was read. Nothing was written.
	ErrConflict = errors.New("owner record has changed since it was read")
	// ErrNotFound: there is no record of this pod.
	ErrNotFound = errors.New("no such pod")
	// ErrDeposed: a newer leader has taken over. Nothing was written.
	ErrDeposed = errors.New("a newer leader has taken over")
)

// Store keeps the records. Both methods must be linearizable: a read sees every write that was answered before it began.
type Store interface {
	// Get returns the record of a pod with its revision, or ErrNotFound or ErrUnknown.
	Get(ctx context.Context, pod string) (Record, error)
	// CompareAndSwap writes r if the pod's record still has the revision r.Revision (zero: if there is none), and
	// returns the new revision. ErrConflict: not written. ErrUnknown: perhaps written, now or later.
	CompareAndSwap(ctx context.Context, r Record) (int64, error)
}

// Memory is a Store in this process, for tests. The zero value is ready.
type Memory struct {
	mu       sync.Mutex
	revision int64
	records  map[string]stored
}

type stored struct {
	value    []byte
	revision int64
}

// Get returns the record of a pod, or ErrNotFound.
func (m *Memory) Get(_ context.Context, pod string) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.records[pod]
	if !ok {
		return Record{}, fmt.Errorf("pod %s: %w", pod, ErrNotFound)
	}
	return Decode(s.value, s.revision)
}

// CompareAndSwap writes r if its revision is the current one, or returns ErrConflict.
func (m *Memory) CompareAndSwap(_ context.Context, r Record) (int64, error) {
	b, err := r.Encode()
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records[r.Pod].revision != r.Revision {
		return 0, fmt.Errorf("pod %s: %w", r.Pod, ErrConflict)
	}
	if m.records == nil {
		m.records = make(map[string]stored)
	}
	m.revision++
	m.records[r.Pod] = stored{value: b, revision: m.revision}
	return m.revision, nil
}
