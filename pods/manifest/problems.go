package manifest

import (
	"fmt"
	"strings"
)

// Problem is one thing that keeps a pod from being run as it is described.
type Problem struct {
	// Field is where it is, in the words of what the operator wrote: a path in a manifest, a flag, a field of a PodSpec.
	Field string
	// Reason is what is wrong. Remedy is what would make it right.
	Reason string
	Remedy string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s: %s; %s", p.Field, p.Reason, p.Remedy)
}

// InvalidError lists everything that is wrong with a pod, not only the first.
type InvalidError struct {
	Pod      string
	Problems []Problem
}

// Error is one line for one problem, and else one line for each below a heading.
func (e *InvalidError) Error() string {
	if len(e.Problems) == 1 {
		return fmt.Sprintf("pod %q: %s", e.Pod, e.Problems[0])
	}
	var b strings.Builder
	fmt.Fprintf(&b, "pod %q: %d problems", e.Pod, len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// report collects problems.
type report []Problem

func (r *report) add(field, reason, remedy string) {
	*r = append(*r, Problem{Field: field, Reason: reason, Remedy: remedy})
}

func (r report) err(pod string) error {
	if len(r) == 0 {
		return nil
	}
	return &InvalidError{Pod: pod, Problems: r}
}
