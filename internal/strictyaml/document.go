// Package strictyaml reads YAML into Go values and refuses what does not belong there: unknown and repeated keys, missing
// parts, values of the wrong kind, aliases, a second document. Everything that is wrong is reported at once, with file,
// line, column and remedy, and what is found wrong later can be reported at its place too.
//
// A field is required where its tag `need` says what to write. A type that stands for alternatives implements Alternatives.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Document remembers where everything stood in a file.
type Document struct {
	file     string
	places   map[string]place
	problems Problems
	depth    int
}

// maxDepth bounds how deep values nest: every place has its whole path as a name.
const maxDepth = 100

type place struct{ line, column int }

// Decode reads one document into a pointer to a struct. The error, where there is one, is Problems.
func Decode(file string, data []byte, into any) (*Document, error) {
	d := &Document{file: file, places: map[string]place{"": {1, 1}}}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	if err := decoder.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			d.report("", "the file is empty", "write it as the guide shows")
			return d, d.problems
		}
		d.syntax(err)
		return d, d.problems
	}
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		d.places["second"] = place{max(second.Line, 1), max(second.Column, 1)}
		d.report("second", "the file holds a second document", "put it into a file of its own")
		return d, d.problems
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
		return d, d.problems
	}
	content := root.Content[0]
	d.walk("", content, reflect.TypeOf(into).Elem())
	if err := d.problems.Err(); err != nil {
		return d, err
	}
	if err := content.Decode(into); err != nil {
		d.report("", err.Error(), "correct the value")
		return d, d.problems
	}
	return d, nil
}

// Problem is a problem with what stands at a path. Where nothing stands there, its place is that of what would hold it.
func (d *Document) Problem(path, reason, remedy string) Problem {
	at := path
	for {
		if p, ok := d.places[at]; ok {
			return Problem{File: d.file, Line: p.line, Column: p.column, Field: path, Reason: reason, Remedy: remedy}
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
}

// Sort puts problems in the order of the file.
func Sort(p Problems) {
	slices.SortStableFunc(p, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}

func (d *Document) report(path, reason, remedy string) {
	d.problems = append(d.problems, d.Problem(path, reason, remedy))
}

// syntax takes the line out of the parser's message, which knows no column.
func (d *Document) syntax(err error) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if number, after, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, message = n, after
			}
		}
	}
	d.problems = append(d.problems, Problem{
		File: d.file, Line: line, Column: 1, Reason: "no YAML: " + message, Remedy: "correct the indentation or the quotes around here",
	})
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func index(path string, i int) string {
	return fmt.Sprintf("%s[%d]", path, i)
}
