// Package resp reads and writes the protocol of Redis, versions 2 and 3 (https://redis.io/docs/latest/develop/reference/protocol-spec).
// It does without fmt: modules that use it are half as large.
package resp

import (
	"bytes"
	"errors"
	"strconv"
)

// Value is one value. Raw is as it came.
type Value struct {
	// Kind is the byte that it begins with: one of +-:$*_#,(!=%~>| or 0 for a command that was typed as a line.
	Kind byte
	// Text is what a value without items holds.
	Text []byte
	// Items are a list's, a set's, a push's; names and values of a map in turns.
	Items []Value
	// Null is a missing value, in any of its spellings.
	Null bool
	Raw  []byte
}

// Bounds of what is read.
const (
	MaxSize  = 8 << 20
	maxDepth = 16
	maxItems = 1 << 20
)

// ErrMore says that the value has not come whole.
var ErrMore = errors.New("the value goes on")

// Parse reads one value from the beginning of data, and shares its memory. The error is ErrMore where more data is needed.
func Parse(data []byte) (Value, error) {
	v, size, err := parse(data, 0)
	if err != nil {
		if errors.Is(err, ErrMore) && len(data) > MaxSize {
			return Value{}, errors.New("a value is larger than " + strconv.Itoa(MaxSize) + " bytes")
		}
		return Value{}, err
	}
	v.Raw = data[:size]
	return v, nil
}

// ParseCommand reads a command: a list of texts, or a line of words.
func ParseCommand(data []byte) (Value, error) {
	if len(data) > 0 && data[0] != '*' {
		text, size, err := line(data)
		if err != nil {
			return Value{}, err
		}
		v := Value{Raw: data[:size]}
		for _, word := range bytes.Fields(text) {
			v.Items = append(v.Items, Value{Kind: '$', Text: word})
		}
		return v, nil
	}
	v, err := Parse(data)
	if err != nil {
		return Value{}, err
	}
	for _, item := range v.Items {
		if item.Kind != '$' || item.Null {
			return Value{}, errors.New("a command has something that is no text")
		}
	}
	return v, nil
}

// line is up to the end of a line, and how many bytes it has with that.
func line(data []byte) ([]byte, int, error) {
	end := bytes.IndexByte(data, '\n')
	if end < 0 {
		if len(data) > MaxSize {
			return nil, 0, errors.New("a line is longer than " + strconv.Itoa(MaxSize) + " bytes")
		}
		return nil, 0, ErrMore
	}
	return bytes.TrimSuffix(data[:end], []byte("\r")), end + 1, nil
}

func parse(data []byte, depth int) (Value, int, error) {
	if len(data) == 0 {
		return Value{}, 0, ErrMore
	}
	if depth == maxDepth {
		return Value{}, 0, errors.New("values are nested deeper than " + strconv.Itoa(maxDepth))
	}
	text, size, err := line(data[1:])
	if err != nil {
		return Value{}, 0, err
	}
	size++
	v := Value{Kind: data[0]}
	switch v.Kind {
	case '+', '-', ':', '#', ',', '(':
		v.Text = text
		return v, size, nil
	case '_':
		v.Null = true
		return v, size, nil
	case '$', '!', '=':
		return bulk(v, data, text, size)
	case '*', '%', '~', '>', '|':
		return list(v, data, text, size, depth)
	default:
		return Value{}, 0, errors.New("no value begins with " + strconv.QuoteRune(rune(data[0])))
	}
}

func bulk(v Value, data, text []byte, size int) (Value, int, error) {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < -1 || n > MaxSize {
		return Value{}, 0, errors.New(strconv.Quote(string(text)) + " is no length of a text")
	}
	if n == -1 {
		v.Null = true
		return v, size, nil
	}
	if len(data) < size+n+2 {
		return Value{}, 0, ErrMore
	}
	if string(data[size+n:size+n+2]) != "\r\n" {
		return Value{}, 0, errors.New("a text is longer than it says")
	}
	v.Text = data[size : size+n]
	return v, size + n + 2, nil
}

func list(v Value, data, text []byte, size, depth int) (Value, int, error) {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < -1 || n > maxItems {
		return Value{}, 0, errors.New(strconv.Quote(string(text)) + " is no length of a list")
	}
	if n == -1 {
		v.Null = true
		return v, size, nil
	}
	if v.Kind == '%' || v.Kind == '|' {
		n *= 2
	}
	for range n {
		item, used, err := parse(data[size:], depth+1)
		if err != nil {
			return Value{}, 0, err
		}
		v.Items = append(v.Items, item)
		size += used
	}
	return v, size, nil
}

// Command writes a command.
func Command(words ...[]byte) []byte {
	out := AppendHead(nil, '*', len(words))
	for _, w := range words {
		out = AppendText(out, w)
	}
	return out
}

// AppendHead writes the beginning of a list or a map with n items behind what is in out.
func AppendHead(out []byte, kind byte, n int) []byte {
	return append(strconv.AppendInt(append(out, kind), int64(n), 10), "\r\n"...)
}

// AppendText writes a text behind what is in out.
func AppendText(out, text []byte) []byte {
	return append(append(AppendHead(out, '$', len(text)), text...), "\r\n"...)
}

// Integer writes a number.
func Integer(n int) []byte { return AppendHead(nil, ':', n) }

// Error writes an error; code is its first word, in capitals.
func Error(code, text string) []byte { return []byte("-" + code + " " + text + "\r\n") }
