package strictyaml

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong in a file.
type Problem struct {
	File string
	// Line and Column count from 1; 0 where the file has no place for it.
	Line, Column int
	// Field is the path of what is wrong, as pairs[0].up.rules[2].match.
	Field string
	// Reason is what is wrong. Remedy is what would make it right.
	Reason, Remedy string
}

// String begins as compilers do, so that editors find the place.
func (p Problem) String() string {
	place, field := p.File, p.Field
	if p.Line > 0 {
		place = fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
	if field != "" {
		field += ": "
	}
	return fmt.Sprintf("%s: %s%s; %s", place, field, p.Reason, p.Remedy)
}

// Problems is everything that is wrong, in the order of the file.
type Problems []Problem

// Error is one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// Err is nil where nothing is wrong.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}
