package stack

import (
	"fmt"
	"slices"
)

// back lists the series of kernels from which pods were moved to an earlier one, and were what they had been: docs/kernels.md has
// the programs. What the earlier kernel does not know is taken out on the way, by drydock/migrate/translate.
func back() [][2]string {
	return [][2]string{{"7.2", "6.12"}}
}

// backwards is why a pod cannot go to a kernel from another; empty where it can. A kernel of the same series may be older.
func backwards(from, to string) string {
	if !Older(to, from) || Series(from) == Series(to) || slices.Contains(back(), [2]string{Series(from), Series(to)}) {
		return ""
	}
	return fmt.Sprintf("kernel %s is older than the source's %s, and moves from %s to %s are not known to work", to, from, Series(from), Series(to))
}

// Series is a kernel's: 6.12 of 6.12.94+deb13-amd64. What is no version is its own series.
func Series(kernel string) string {
	n := numbers(kernel)
	if len(n) < 2 {
		return kernel
	}
	return fmt.Sprintf("%d.%d", n[0], n[1])
}
