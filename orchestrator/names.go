package orchestrator

import "sync"

// names is a set of names that are being worked on.
type names struct {
	mu  sync.Mutex
	set map[string]bool
}

func newNames() *names { return &names{set: make(map[string]bool)} }

// add says whether the name was not in the set.
func (n *names) add(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.set[name] {
		return false
	}
	n.set[name] = true
	return true
}

func (n *names) remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.set, name)
}
