// Package translate carries what CRIU wrote on one kernel to an earlier one, which knows less. Each difference between kernels is a
// Rule: what it takes out of the images, and between which kernels. A rule is asked only where the pair of kernels needs it, and
// changes only images that have what it is about. What a rule did can be found again by nobody but the pod: it goes on as it would
// on a kernel that never had the thing.
package translate

import (
	"fmt"
	"os"
	"path/filepath"

	"drydock/migrate/stack"
)

// Rule bridges one difference between kernels.
type Rule struct {
	// Name is how reports name it.
	Name string
	// Since is the first kernel that has what the rule takes away: it bridges from that and later ones to earlier ones.
	Since string
	// Does says what becomes of the pod.
	Does string
	// Memory says that the rule writes to the pod's memory too, which in post-copy is not among the images.
	Memory bool
	find   func(images string) ([]Edit, error)
}

// Rules are all there are, in the order in which they are applied.
func Rules() []Rule {
	return []Rule{rseq(), droppable()}
}

// Between are the rules that a move from one kernel to another may need, in order; none where the other is as new.
func Between(from, to string) []Rule {
	var needed []Rule
	for _, r := range Rules() {
		if r.Bridges(from, to) {
			needed = append(needed, r)
		}
	}
	return needed
}

// Bridges says whether the rule is for a move from one kernel to another, given as `uname -r` says them.
func (r Rule) Bridges(from, to string) bool {
	return !stack.Older(from, r.Since) && stack.Older(to, r.Since)
}

// Find are the changes to the images in a directory, one container's, that the rule asks for; none where it does not apply.
// Applying them and asking again gives none.
func (r Rule) Find(images string) ([]Edit, error) {
	edits, err := r.find(images)
	if err != nil {
		return nil, fmt.Errorf("rule %s: %w", r.Name, err)
	}
	return edits, nil
}

// Edit is one change of one file. It may be applied again.
type Edit struct {
	Path string
	// Whole is the new content of the file; where it is nil, Data is written at Offset.
	Whole  []byte
	Data   []byte
	Offset int64
}

// Apply makes the change. A file is never seen half changed.
func (e Edit) Apply() error {
	if e.Whole == nil {
		file, err := os.OpenFile(e.Path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = file.WriteAt(e.Data, e.Offset)
		return err
	}
	fresh := filepath.Join(filepath.Dir(e.Path), "."+filepath.Base(e.Path)+".new")
	if err := os.WriteFile(fresh, e.Whole, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, e.Path)
}
