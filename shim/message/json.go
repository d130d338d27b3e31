package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds how deep values nest: reading recurses.
const maxDepth = 500

// ParseJSON reads one value. Repeated names in an object, invalid UTF-8, nesting deeper than 500 and anything behind the
// value are errors: a program behind the shim might read them differently.
func ParseJSON(data []byte) (*Value, error) {
	d := &reader{Decoder: jsontext.NewDecoder(bytes.NewBuffer(data))} // a Buffer is read in place, and not changed
	v, err := d.read(0)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("no JSON: nothing there")
		}
		return nil, fmt.Errorf("no JSON: %w", err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("no JSON: more than one value, at byte %d", d.InputOffset())
	}
	return v, nil
}

// reader makes values in slabs: a body has many small ones.
type reader struct {
	*jsontext.Decoder
	slab []Value
}

const slabSize = 16

func (d *reader) value(kind Kind, text string) *Value {
	if len(d.slab) == 0 {
		d.slab = make([]Value, slabSize)
	}
	v := &d.slab[0]
	d.slab = d.slab[1:]
	v.kind, v.text = kind, text
	return v
}

func (d *reader) read(depth int) (*Value, error) {
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case 'n':
		return d.value(Null, ""), nil
	case 't':
		return d.value(Bool, "true"), nil
	case 'f':
		return d.value(Bool, "false"), nil
	case '"':
		return d.value(String, token.String()), nil
	case '0':
		return d.value(Number, token.String()), nil
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("nested deeper than %d, at byte %d", maxDepth, d.InputOffset())
	}
	if token.Kind() == '[' {
		return d.array(depth + 1)
	}
	return d.object(depth + 1)
}

func (d *reader) array(depth int) (*Value, error) {
	v := d.value(Array, "")
	for d.PeekKind() != ']' {
		item, err := d.read(depth)
		if err != nil {
			return nil, err
		}
		v.items = append(v.items, item)
	}
	_, err := d.ReadToken()
	return v, err
}

func (d *reader) object(depth int) (*Value, error) {
	v := d.value(Object, "")
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String() // before the next read, which reuses the token's memory
		value, err := d.read(depth)
		if err != nil {
			return nil, err
		}
		v.members = append(v.members, Member{key, value})
	}
	_, err := d.ReadToken()
	return v, err
}

// AppendJSON writes the value behind what is in dst, without spaces.
func (v *Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case Null:
		return append(dst, "null"...)
	case Bool, Number:
		return append(dst, v.text...)
	case String:
		return appendString(dst, v.text)
	case Array:
		dst = append(dst, '[')
		for i, item := range v.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = item.AppendJSON(dst)
		}
		return append(dst, ']')
	}
	dst = append(dst, '{')
	for i, m := range v.members {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, m.Name), ':')
		dst = m.Value.AppendJSON(dst)
	}
	return append(dst, '}')
}

// appendString never fails but for invalid UTF-8, which it replaces and goes on.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

// String is the value as JSON.
func (v *Value) String() string { return string(v.AppendJSON(nil)) }
