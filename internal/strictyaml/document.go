// Package strictyaml reads YAML into Go values and refuses what does not belong there: unknown and repeated keys, missing
// parts, values of the wrong kind, aliases, a second document. Everything that is wrong is reported at once, with file,
// line, column and remedy, and what is found wrong later can be reported at its place too.
//
// A field goes by its tag `yaml`. It is required where its tag `need` says what to write, and where its key is not there it is
// what its tag `default` says, written as it would be in YAML. A type that stands for alternatives implements Alternatives.
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

// Format is what kind of file it is. The zero one says nothing of it.
type Format struct {
	// Empty is the remedy for a file that holds nothing, and Second that for a second document in it.
	Empty, Second string
	// Table is what keys that the writer chooses are called together, and Example is one such value.
	Table, Example string
	// Unknown words a key that is not among those that are known.
	Unknown func(key string, known []string) (reason, remedy string)
	// Quotes: what YAML takes for a number or for true or false is no text unless it is in quotes.
	Quotes bool
}

// Document remembers where everything stood in a file.
type Document struct {
	file     string
	format   Format
	places   map[string]Place
	problems Problems
	depth    int
}

// maxDepth bounds how deep values nest: every place has its whole path as a name.
const maxDepth = 100

// Place is where a value begins, and how it is written.
type Place struct {
	Line, Column int
	Style        yaml.Style
}

// Decode is that of the zero Format.
func Decode(file string, data []byte, into any) (*Document, error) {
	return Format{}.Decode(file, data, into)
}

// Decode reads one document into a pointer to a struct. The error, where there is one, is Problems: what is right has been read
// all the same. The Document is nil where there is none in the file.
func (f Format) Decode(file string, data []byte, into any) (*Document, error) {
	d := &Document{file: file, format: f.filled(), places: map[string]Place{"": {Line: 1, Column: 1}}}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root, second yaml.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		d.report("", "the file is empty", d.format.Empty)
		return nil, d.problems
	case err != nil:
		d.syntax(err)
		return nil, d.problems
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		d.at(&second, "", "a second document begins here", d.format.Second)
	case !errors.Is(err, io.EOF):
		d.syntax(err)
	}
	value := reflect.ValueOf(into).Elem()
	d.fill(value)
	d.decode("", root.Content[0], value)
	return d, d.problems.Err()
}

// filled has words for everything.
func (f Format) filled() Format {
	if f.Empty == "" {
		f.Empty = "write it as the guide shows"
	}
	if f.Second == "" {
		f.Second = "put it into a file of its own"
	}
	if f.Unknown == nil {
		f.Unknown = func(_ string, known []string) (reason, remedy string) {
			return "unknown key", "remove it, or use one of: " + strings.Join(known, ", ")
		}
	}
	return f
}

// Has says whether the file has a value at a path.
func (d *Document) Has(path string) bool {
	_, ok := d.places[path]
	return ok
}

// Place is that of a path, or of what would hold it where nothing stands there.
func (d *Document) Place(path string) Place {
	for {
		if p, ok := d.places[path]; ok {
			return p
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// Problem is a problem with what stands at a path. Where nothing stands there, its place is that of what would hold it.
func (d *Document) Problem(path, reason, remedy string) Problem {
	p := d.Place(path)
	return Problem{File: d.file, Line: p.Line, Column: p.Column, Field: path, Reason: reason, Remedy: remedy}
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

// at reports a problem at a node's place.
func (d *Document) at(node *yaml.Node, path, reason, remedy string) {
	d.problems = append(d.problems, Problem{
		File: d.file, Line: max(node.Line, 1), Column: max(node.Column, 1), Field: path, Reason: reason, Remedy: remedy,
	})
}

// syntax takes the line out of the parser's message, which knows no column, and at times no line.
func (d *Document) syntax(err error) {
	p := Problem{File: d.file, Reason: strings.TrimPrefix(err.Error(), "yaml: "), Remedy: "correct the YAML there"}
	if rest, ok := strings.CutPrefix(p.Reason, "line "); ok {
		if number, after, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				p.Line, p.Column, p.Reason = n, 1, after
			}
		}
	}
	d.problems = append(d.problems, p)
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
