package pool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a pool's file.
type Fault struct {
	File string
	// Line and Column count from 1; 0 where the file has no place for it.
	Line, Column int
	// Key is the path of the key, such as windows[0].to; empty where the file is no YAML.
	Key     string
	Message string
	Remedy  string
}

// Error is the place, the key and the fault, without the remedy.
func (f Fault) Error() string {
	place := f.File
	if f.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
	}
	if f.Key == "" {
		return place + ": " + f.Message
	}
	return fmt.Sprintf("%s: `%s`: %s", place, f.Key, f.Message)
}

// Faults are all that is wrong with a file, in the order of their places.
type Faults []Fault

// Error has one line for each fault, with its remedy.
func (f Faults) Error() string {
	var lines []string
	for _, fault := range f {
		lines = append(lines, fault.Error()+": "+fault.Remedy)
	}
	return strings.Join(lines, "\n")
}

// sorted puts faults in the order of their places, and keeps of several about one key the one that was found first: the others
// often follow from it.
func (f Faults) sorted() Faults {
	var kept Faults
	for _, fault := range f {
		if !slices.ContainsFunc(kept, func(k Fault) bool { return k.Key == fault.Key && k.Key != "" }) {
			kept = append(kept, fault)
		}
	}
	slices.SortStableFunc(kept, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	})
	return kept
}
