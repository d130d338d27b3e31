package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// print writes value as JSON or YAML where the operator asked for that, and otherwise what human writes.
func (a *app) print(value any, human func(*table)) error {
	if a.settings.Output == "table" {
		var buf bytes.Buffer
		t := &table{tabwriter.NewWriter(&buf, 0, 0, 3, ' ', 0)}
		human(t)
		t.w.Flush()
		for line := range strings.Lines(buf.String()) {
			if _, err := fmt.Fprintln(a.stdout, strings.TrimRight(line, " \n")); err != nil {
				return err
			}
		}
		return nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	out := buf.Bytes()
	if a.settings.Output == "yaml" {
		var err error
		if out, err = yaml.JSONToYAML(out); err != nil {
			return fmt.Errorf("encode the output: %w", err)
		}
	}
	_, err := a.stdout.Write(out)
	return err
}

// done reports an action whose answer holds nothing, in words or as an object.
func (a *app) done(kind, name, action string) error {
	return a.print(map[string]string{"kind": kind, "name": name, "action": action}, func(t *table) {
		t.line("%s %s %s", kind, name, action)
	})
}

// message is an API message in protobuf's JSON mapping, with zero values spelled out.
type message struct{ proto.Message }

// MarshalJSON implements json.Marshaler.
func (m message) MarshalJSON() ([]byte, error) {
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m.Message)
}

// messages is a list of them; an empty one is [] rather than null.
func messages[M proto.Message](list []M) []message {
	out := make([]message, 0, len(list))
	for _, m := range list {
		out = append(out, message{m})
	}
	return out
}

// table aligns cells. Lines between two tables end the first.
type table struct{ w *tabwriter.Writer }

// A cell that stays empty.
const blank = " "

// row writes the cells of one row; an empty cell shows as a dash.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c == "" {
			c = "-"
		}
		if i > 0 {
			io.WriteString(t.w, "\t")
		}
		io.WriteString(t.w, strings.ReplaceAll(c, "\n", " "))
	}
	io.WriteString(t.w, "\n")
}

// line writes text that stands outside of columns.
func (t *table) line(format string, args ...any) {
	t.w.Flush()
	fmt.Fprintf(t.w, format+"\n", args...)
	t.w.Flush()
}

// field writes a name and a value, and nothing where there is no value.
func (t *table) field(name, value string) {
	if value != "" {
		t.row(name+":", value)
	}
}

// section begins a table with a heading of its own.
func (t *table) section(heading string, columns ...string) {
	t.line("")
	if heading != "" {
		t.line("%s", heading)
	}
	if len(columns) > 0 {
		t.row(columns...)
	}
}
