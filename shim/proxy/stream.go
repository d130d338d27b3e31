package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"

	"drydock/shim/message"
	"drydock/shim/schema"
)

// frames translates messages of gRPC one by one while they are read: a byte that says whether it is compressed, four for
// its length, and the message (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
type frames struct {
	from      io.ReadCloser
	translate func([]byte) ([]byte, error)
	most      int64
	ready     []byte
	// failed ends the stream: it gets why, and says what the reader gets.
	failed func(error) error
	err    error
}

func (f *frames) Read(p []byte) (int, error) {
	for len(f.ready) == 0 {
		if f.err != nil {
			return 0, f.err
		}
		data, err := f.next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				err = f.failed(err)
			}
			f.err = err
			return 0, err
		}
		f.ready = data
	}
	n := copy(p, f.ready)
	f.ready = f.ready[n:]
	return n, nil
}

// Close ends the stream beneath.
func (f *frames) Close() error { return f.from.Close() }

func (f *frames) next() ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(f.from, head[:]); err != nil {
		return nil, err // io.EOF only where no byte has come
	}
	size := int64(binary.BigEndian.Uint32(head[1:]))
	if head[0] != 0 {
		return nil, message.Untranslatablef("a message of the stream is compressed")
	}
	if size > f.most {
		return nil, tooLarge(f.most)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(f.from, data); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	out, err := f.translate(data)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(head[1:], uint32(len(out)))
	return append(head[:], out...), nil
}

// isRefusal tells what the shim refuses from a connection that broke.
func isRefusal(err error) bool {
	var r *message.Refusal
	return errors.As(err, &r)
}

// through reads a message as one version has it, and writes it as the other does.
func through(ctx context.Context, read, write message.Codec, change func(context.Context, *message.Value) error) func([]byte) ([]byte, error) {
	return func(data []byte) ([]byte, error) {
		v, err := read.Decode(data)
		if err != nil {
			return nil, message.Untranslatablef("%v", err)
		}
		if err := guarded(func() error { return change(ctx, v) }); err != nil {
			return nil, err
		}
		out, err := write.Encode(v)
		if err != nil {
			return nil, message.Untranslatablef("%v", err)
		}
		return out, nil
	}
}

// methods are how the messages of a call are read and written on the client's side and on the server's.
func (r *ready) methods(c *call, to message.Path) (client, server schema.Method, err error) {
	for _, side := range []struct {
		version string
		path    message.Path
		into    *schema.Method
	}{{c.client, c.in, &client}, {c.backend.Version, to, &server}} {
		s := r.Record.Schemas[side.version]
		ok := s != nil
		if ok {
			*side.into, ok = s.Method(side.path)
		}
		if !ok {
			return client, server, message.Untranslatablef("version %s has no descriptor of %s", side.version, side.path)
		}
	}
	return client, server, nil
}

// parted makes an answer of gRPC that is only trailers, sent as a head that ends the stream, one with a head and trailers. The
// reverse proxy flushes heads before it knows that nothing follows, and a status in a head that ends nothing is not seen.
func parted(in *http.Response) {
	if in.Header.Get("Grpc-Status") == "" {
		return
	}
	if in.Trailer == nil {
		in.Trailer = http.Header{}
	}
	for name, values := range in.Header {
		if name != "Content-Type" && name != "Date" {
			in.Trailer[name] = values
			delete(in.Header, name)
		}
	}
}

// requestStream translates what the client sends, where a rule changes it.
func (r *ready) requestStream(c *call, to message.Path) error {
	items, _ := c.exchange.Touches()
	if !items {
		return nil
	}
	client, server, err := r.methods(c, to)
	if err != nil {
		return err
	}
	c.request.ContentLength = -1
	c.request.Body = &frames{
		from: c.request.Body, most: r.MaxBody, translate: through(c.request.Context(), client.Request, server.Request, c.exchange.Item),
		failed: func(err error) error {
			if isRefusal(err) {
				c.broken.Store(c.chain.Refuse(err, false))
			}
			return err
		},
	}
	return nil
}

// replyStream translates what the server sends. An answer that cannot be translated ends with the status that says so.
func (r *ready) replyStream(c *call) error {
	in := c.response
	to, err := message.ParsePath(c.request.URL.EscapedPath())
	if err != nil {
		return err
	}
	_, replies := c.exchange.Touches()
	translate := func(data []byte) ([]byte, error) { return data, nil }
	if replies {
		client, server, err := r.methods(c, to)
		if err != nil {
			return err
		}
		translate = through(c.request.Context(), server.Reply, client.Reply, c.exchange.ReplyItem)
		in.ContentLength = -1
		in.Header.Del("Content-Length")
	} else if items, _ := c.exchange.Touches(); !items {
		return nil
	}
	in.Body = &frames{from: in.Body, most: r.MaxBody, translate: translate, failed: func(err error) error {
		refusal := c.broken.Load()
		switch {
		case refusal != nil: // the server saw the request's stream end, and so ended the answer
		case isRefusal(err):
			refusal = c.chain.Refuse(err, true)
		default:
			return err
		}
		if in.Trailer == nil {
			in.Trailer = http.Header{}
		}
		setStatus(in.Trailer, refusal)
		return io.EOF
	}}
	return nil
}
