package owner

import (
	"errors"
	"fmt"
	"maps"
	"sync"
)

// ErrFenced: the order comes from an epoch or a leader that has been replaced.
var ErrFenced = errors.New("out of date")

// Fence is an agent's memory of the highest epoch of each pod and of the highest leadership revision that it has acted
// under. It is kept in a file and survives a boot. Safe for concurrent use.
type Fence struct {
	save func(fenceFile) error
	mu   sync.Mutex
	seen fenceFile
}

// fenceVersion is the layout of fenceFile. A reader refuses a higher one.
const fenceVersion = 1

type fenceFile struct {
	Version int               `json:"version"`
	Leader  int64             `json:"leader"`
	Epochs  map[string]uint64 `json:"epochs"`
}

// OpenFence reads the fence kept at path, or begins an empty one. An unreadable file is an error, and the agent must then
// obey nobody: it cannot tell an old order from a new one.
func OpenFence(path string) (*Fence, error) {
	f := &Fence{save: func(seen fenceFile) error { return writeFile(path, seen) }}
	found, err := readFile(path, &f.seen)
	if err != nil {
		return nil, fmt.Errorf("open fence: %w", err)
	}
	if found {
		if err := knownLayout(f.seen.Version, fenceVersion); err != nil {
			return nil, fmt.Errorf("open fence %s: %w", path, err)
		}
	}
	f.seen.Version = fenceVersion
	return f, nil
}

// Admit lets an order through that is not older than any that was let through before, and remembers it durably first.
// A leader of zero is an order that comes from no leader (the other agent, this agent itself) and is judged by its epoch.
// ErrFenced: the order is out of date and must not be carried out. Any other error: it could not be remembered; the same.
func (f *Fence) Admit(pod string, epoch uint64, leader int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if leader != 0 && leader < f.seen.Leader {
		return fmt.Errorf("order for pod %s from leader %d, leader %d has been seen: %w", pod, leader, f.seen.Leader, ErrFenced)
	}
	if epoch < f.seen.Epochs[pod] {
		return fmt.Errorf("order for pod %s at epoch %d, epoch %d has been seen: %w", pod, epoch, f.seen.Epochs[pod], ErrFenced)
	}
	if leader <= f.seen.Leader && epoch == f.seen.Epochs[pod] {
		return nil
	}
	next := fenceFile{Version: fenceVersion, Leader: max(leader, f.seen.Leader), Epochs: maps.Clone(f.seen.Epochs)}
	if next.Epochs == nil {
		next.Epochs = make(map[string]uint64)
	}
	next.Epochs[pod] = epoch
	if err := f.save(next); err != nil {
		return fmt.Errorf("remember epoch %d of pod %s: %w", epoch, pod, err)
	}
	f.seen = next
	return nil
}
