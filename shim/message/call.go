package message

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Codec reads and writes a body.
type Codec interface {
	Decode(data []byte) (*Value, error)
	Encode(v *Value) ([]byte, error)
}

// JSON is the codec of JSON over HTTP.
type JSON struct{}

// Decode reads one value.
func (JSON) Decode(data []byte) (*Value, error) { return ParseJSON(data) }

// Encode writes one value.
func (JSON) Encode(v *Value) ([]byte, error) { return v.AppendJSON(nil), nil }

// Body is read when somebody first looks into it, and written anew only where somebody did.
type Body struct {
	raw    []byte
	load   func() ([]byte, error)
	value  *Value
	codec  Codec
	parsed bool
}

// LazyBody is a body that has not come yet: load reads the whole of it, once, when somebody looks into it.
func LazyBody(load func() ([]byte, error), codec Codec) Body { return Body{load: load, codec: codec} }

// NewBody is a body as it came. A nil codec says that nobody can look into it.
func NewBody(raw []byte, codec Codec) Body { return Body{raw: raw, codec: codec} }

// ValueBody is a body that is a value already.
func ValueBody(v *Value) Body { return Body{value: v, codec: JSON{}, parsed: true} }

// Value is what is in the body; nil where the body is empty. What is changed in it is written.
func (b *Body) Value() (*Value, error) {
	if b.parsed {
		return b.value, nil
	}
	if b.codec == nil && (b.load != nil || len(b.raw) > 0) {
		return nil, errors.New("the body's content type or encoding is not one that can be translated")
	}
	if b.load != nil {
		raw, err := b.load()
		if err != nil {
			return nil, err
		}
		b.raw, b.load = raw, nil
	}
	if len(b.raw) == 0 {
		return nil, nil
	}
	v, err := b.codec.Decode(b.raw)
	if err != nil {
		return nil, err
	}
	b.value, b.parsed = v, true
	return v, nil
}

// Set replaces the body; nil empties it.
func (b *Body) Set(v *Value) {
	b.value, b.parsed, b.raw, b.load = v, v != nil, nil, nil
	if b.codec == nil {
		b.codec = JSON{}
	}
}

// Untouched says that nobody looked into a body that has not come yet: it can be sent on as it comes.
func (b *Body) Untouched() bool { return b.load != nil }

// Shown is the body as JSON, for whoever watches; nil where it is none, is empty, or has not come yet. It changes nothing.
func (b *Body) Shown() []byte {
	if b.parsed && b.value != nil {
		return b.value.AppendJSON(nil)
	}
	if _, ok := b.codec.(JSON); !ok || len(b.raw) == 0 {
		return nil
	}
	v, err := ParseJSON(b.raw)
	if err != nil {
		return nil
	}
	return v.AppendJSON(nil)
}

// Bytes is the body to send.
func (b *Body) Bytes() ([]byte, error) {
	if b.load != nil {
		return b.load()
	}
	if !b.parsed {
		return b.raw, nil
	}
	return b.codec.Encode(b.value)
}

// Request is a call's first half.
type Request struct {
	Method string
	// Path is decoded segment by segment: a slash in an identifier does not part it.
	Path  Path
	Query url.Values
	// Header has its names in canonical form, as net/http has them.
	Header http.Header
	Body   Body
	// Stream says that the body is a sequence of messages that Exchange.Item translates one by one; Body is empty.
	Stream bool
}

// Response is a call's second half.
type Response struct {
	Status int
	Header http.Header
	Body   Body
	// Stream says that the body is a sequence of messages that Exchange.ReplyItem translates one by one; Body is empty.
	Stream bool
}

// Translator is one direction between two neighbour versions: it takes requests of clients on its side to the other.
// It must be safe for concurrent use.
type Translator interface {
	// Request changes a request into what the other version expects. A call that it cannot honour is a *Refusal.
	Request(ctx context.Context, r *Request) (Exchange, error)
}

// Exchange is the rest of a call that a Translator has begun. One goroutine may use Item while another uses the others.
type Exchange interface {
	// Item translates one message of the request's stream, in place.
	Item(ctx context.Context, v *Value) error
	// Response translates back what the other version answered.
	Response(ctx context.Context, r *Response) error
	// ReplyItem translates one message of the response's stream back, in place.
	ReplyItem(ctx context.Context, v *Value) error
	// Touches says whether messages of streams are changed at all: where not, they may pass unread.
	Touches() (items, replies bool)
}

// Path is the segments of a URL's path, decoded. "/" is one empty segment.
type Path []string

// ParsePath reads an escaped path; it begins with a slash.
func ParsePath(escaped string) (Path, error) {
	rest, ok := strings.CutPrefix(escaped, "/")
	if !ok {
		return nil, fmt.Errorf("path %q does not begin with a slash", escaped)
	}
	parts := strings.Split(rest, "/")
	for i, part := range parts {
		decoded, err := url.PathUnescape(part)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", escaped, err)
		}
		parts[i] = decoded
	}
	return parts, nil
}

// String is the escaped path.
func (p Path) String() string {
	var b strings.Builder
	for _, part := range p {
		b.WriteString("/" + url.PathEscape(part))
	}
	return b.String()
}
