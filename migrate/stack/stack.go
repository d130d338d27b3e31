// Package stack says which hosts can hand pods over to which: the one rule that agents check before a migration, and that
// controllers plan by.
package stack

import (
	"fmt"
	"strconv"
	"strings"
)

// TracksWrites is CRIU's name for what pre-copy needs of a host's kernel: that it tells which pages a process has written to.
const TracksWrites = "mem_dirty_track"

// Stack is what of a host decides about that.
type Stack struct {
	Kernel, CRIU, Arch string
	// Features are the processor's.
	Features []string
}

// Obstacle is one reason why not, and what would remove it.
type Obstacle struct{ Reason, Remedy string }

// Obstacles are all reasons why a pod that runs on from cannot go on running on to. CRIU reads what an earlier one wrote, and
// a kernel takes what an earlier one gave: the same or newer on both counts, and every instruction that a pod may use. Kernels
// of one series take from each other what they give, and some earlier series have been tried: see back.
func Obstacles(from, to Stack) []Obstacle {
	var found []Obstacle
	no := func(remedy, format string, args ...any) {
		found = append(found, Obstacle{fmt.Sprintf(format, args...), remedy})
	}
	if from.Arch != to.Arch {
		no("choose a host of the same architecture", "architecture is %s, the pod's is %s", to.Arch, from.Arch)
	}
	if Older(to.CRIU, from.CRIU) {
		no("install the same CRIU on both hosts", "CRIU %s cannot be relied on to read what %s writes", to.CRIU, from.CRIU)
	}
	if why := backwards(from.Kernel, to.Kernel); why != "" {
		no("choose a host with the same or a newer kernel", "%s", why)
	}
	if missing := missing(from.Features, to.Features); len(missing) > 0 {
		no("choose a host with the same or a newer processor", "the processor lacks %s, which the pod may use", strings.Join(missing, ", "))
	}
	return found
}

// Older compares dotted versions number by number, as far as both have numbers: 6.12.94 is older than 6.18.
func Older(a, b string) bool {
	x, y := numbers(a), numbers(b)
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

func numbers(version string) []int {
	var result []int
	for _, field := range strings.FieldsFunc(version, func(r rune) bool { return r == '.' || r == '-' || r == '+' }) {
		n, err := strconv.Atoi(field)
		if err != nil {
			break
		}
		result = append(result, n)
	}
	return result
}
