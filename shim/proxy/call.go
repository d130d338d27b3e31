package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"drydock/shim/chain"
	"drydock/shim/flow"
	"drydock/shim/message"
)

// call is one packet of the flow.
type call struct {
	request  *http.Request
	response *http.Response
	// err ends the call: what follows lets it through.
	err error

	client   string
	backend  *backend
	keyed    bool
	chain    *chain.Chain
	grpc     bool
	in       message.Path
	exchange *chain.Exchange
	// taken is the condition in which the call counts, until it ends or the answer's body has taken that over.
	taken *condition
	// traced says that somebody watches: bodies of a known length are read, so that they can be shown.
	traced bool
	// broken is why the request's stream ended early.
	broken atomic.Pointer[message.Refusal]
}

// operator is a stage that works on calls without an error.
type operator func(*call) error

// Process works on one call.
func (o operator) Process(c *call) int {
	if c.err == nil {
		c.err = guarded(func() error { return o(c) })
		var refusal *message.Refusal
		if errors.As(c.err, &refusal) && c.chain != nil {
			c.err = c.chain.Refuse(refusal, c.response != nil)
		}
	}
	return 0
}

// guarded makes a refusal of a fault in a translator: one call must not end all others.
func guarded(work func() error) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = message.Untranslatablef("the translator has a fault: %v", fault)
		}
	}()
	return work()
}

// graph is the pipeline between the HTTP server, which accepts and reads, and the reverse proxy, which replies.
func (p *Proxy) graph(r *ready) flow.Graph[*call] {
	node := func(name string, o operator) flow.Node[*call] {
		return flow.Node[*call]{Name: name, New: func() (flow.Operator[*call], error) { return o, nil }}
	}
	return flow.Line(node("parse", r.parse), node("translate", r.translate), node("route", p.route(r)), node("compose", r.compose))
}

// rewrite leaves a request as the client sent it: the program behind does not see the shim.
func rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host = "http", "server"
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	r.Out.Host = r.In.Host
	for name, values := range r.In.Header {
		if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") {
			r.Out.Header[name] = values
		}
	}
}

// parse tells the client's version, and so the chain.
func (r *ready) parse(c *call) error {
	header := c.request.Header
	known, _ := c.request.Context().Value(knownKey{}).(string)
	c.client = r.clientOf(known, header)
	if !slices.Contains(r.Record.Versions, c.client) {
		return &unknownVersion{c.client, r.Record.Versions}
	}
	if err := r.choose(c); err != nil {
		return err
	}
	c.chain = r.chain(c.client, c.backend)
	if r.Pass {
		c.chain = r.chains[[2]string{c.client, c.client}]
		header.Set(r.Record.Client.Header, c.client)
	}
	c.grpc = isGRPC(header)
	if len(c.chain.Steps()) > 0 && header.Get("Upgrade") != "" {
		return message.Untranslatablef("a connection that is upgraded to %s cannot be translated", header.Get("Upgrade"))
	}
	return nil
}

// choose finds the backend.
func (r *ready) choose(c *call) error {
	var key string
	if r.Record.Router != nil && len(r.backends) > 1 {
		path, err := message.ParsePath(c.request.URL.EscapedPath())
		if err != nil {
			return message.Untranslatablef("%v", err)
		}
		m := &message.Request{Method: c.request.Method, Path: path, Query: c.request.URL.Query(), Header: c.request.Header}
		if key, c.keyed, err = r.Record.Router.Key(m); err != nil {
			return err
		}
	}
	var err error
	if c.backend, err = r.pick(c.client, key, c.keyed); err != nil {
		return err
	}
	if !c.backend.take() { // its condition knows better than these settings, which may not be the newest any more
		return errHeld
	}
	c.taken = c.backend.condition
	return nil
}

// leave has the call count no more, unless its answer does.
func (c *call) leave() {
	if c.taken != nil {
		c.taken.leave()
		c.taken = nil
	}
}

// translate takes the request to the server's version.
func (r *ready) translate(c *call) error {
	ctx, out := c.request.Context(), c.request
	if len(c.chain.Steps()) == 0 {
		_, err := c.chain.Request(ctx, &message.Request{}) // it is counted
		return err
	}
	path, err := message.ParsePath(out.URL.EscapedPath())
	if err != nil {
		return message.Untranslatablef("%v", err)
	}
	query, err := url.ParseQuery(out.URL.RawQuery)
	if err != nil {
		return message.Untranslatablef("query: %v", err)
	}
	c.in = slices.Clone(path)
	m := &message.Request{Method: out.Method, Path: path, Query: maps.Clone(query), Header: out.Header, Stream: c.grpc}
	if !c.grpc && out.Body != nil && out.Body != http.NoBody {
		if m.Body, err = r.body(c, out.Body, out.ContentLength, codecOf(out.Header)); err != nil {
			return err
		}
	}
	if c.exchange, err = c.chain.Request(ctx, m); err != nil {
		return err
	}
	out.Method = m.Method
	if !slices.Equal(c.in, m.Path) {
		out.URL.Path, out.URL.RawPath = "/"+strings.Join(m.Path, "/"), m.Path.String()
	}
	if query.Encode() != m.Query.Encode() {
		out.URL.RawQuery = m.Query.Encode()
	}
	if name := r.Record.Client.Header; name != "" && out.Header.Get(name) != "" {
		out.Header.Set(name, c.backend.Version)
	}
	out.Header.Del("Accept-Encoding") // the answer must be readable
	if c.grpc {
		return r.requestStream(c, m.Path)
	}
	return writeBody(out, &m.Body)
}

// writeBody sends a body that was looked into, and leaves any other to come as it comes.
func writeBody(out *http.Request, body *message.Body) error {
	if body.Untouched() {
		return nil
	}
	data, err := body.Bytes()
	if err != nil {
		return message.Untranslatablef("%v", err)
	}
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	if len(data) == 0 {
		out.Body = http.NoBody
	} else if out.Header.Get("Content-Type") == "" {
		out.Header.Set("Content-Type", "application/json")
	}
	return nil
}

// route makes the call. One that did not reach its backend, and that no key binds to it, goes to another of the same version.
func (p *Proxy) route(r *ready) operator {
	return func(c *call) error {
		if body := c.request.Body; len(r.backends) > 1 && body != nil && body != http.NoBody {
			c.request.Body = io.NopCloser(body) // a try that fails closes it; the HTTP server does so in the end
		}
		err := p.send(c)
		if err != nil && !c.keyed && notReached(err) {
			if next := r.same(c.backend); next != nil {
				c.leave()
				c.backend, c.taken = next, next.condition
				err = p.send(c)
			}
		}
		if refusal := c.broken.Load(); refusal != nil && err != nil {
			return refusal
		}
		return err
	}
}

// send makes the call to the backend that was chosen.
func (p *Proxy) send(c *call) error {
	c.request.URL.Host = c.backend.Address
	transport := p.plain
	if c.grpc {
		transport = p.h2
	}
	var err error
	c.response, err = transport.RoundTrip(c.request)
	if err == nil && c.response.StatusCode != http.StatusSwitchingProtocols {
		c.response.Body, c.taken = &countedBody{ReadCloser: c.response.Body, of: c.taken}, nil
	}
	if down := err != nil && notReached(err); down != c.backend.down.Load() {
		c.backend.down.Store(down)
	}
	return err
}

// countedBody is that of a call which is under way until it is closed.
type countedBody struct {
	io.ReadCloser
	of   *condition
	once sync.Once
}

// Close ends the call.
func (b *countedBody) Close() error {
	b.once.Do(b.of.leave)
	return b.ReadCloser.Close()
}

// compose takes the answer back to the client's version.
func (r *ready) compose(c *call) error {
	if c.grpc {
		parted(c.response)
	}
	if len(c.chain.Steps()) == 0 {
		return nil
	}
	in := c.response
	m := &message.Response{Status: in.StatusCode, Header: in.Header, Stream: c.grpc}
	bodiless := c.request.Method == http.MethodHead || in.StatusCode == http.StatusNoContent || in.StatusCode == http.StatusNotModified
	var err error
	if !c.grpc && !bodiless {
		m.Body, err = r.body(c, in.Body, in.ContentLength, codecOf(in.Header))
	}
	if err == nil {
		err = c.exchange.Response(c.request.Context(), m)
	}
	if err == nil && !c.grpc && !bodiless && !m.Body.Untouched() {
		var data []byte
		if data, err = m.Body.Bytes(); err == nil {
			err = in.Body.Close()
			in.Body, in.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
			in.Header.Set("Content-Length", fmt.Sprint(len(data)))
			in.TransferEncoding = nil
		}
	}
	if bodiless {
		in.Header.Del("Content-Length") // that of a body which would be translated
	}
	if err == nil && c.grpc {
		err = r.replyStream(c)
	}
	if err != nil {
		_ = in.Body.Close() // it is not read any further
		return err
	}
	in.StatusCode, in.Status = m.Status, ""
	return nil
}

// body is read when a translator looks into it. That of a call that is traced is read at once where that changes nothing.
func (r *ready) body(c *call, from io.Reader, length int64, codec message.Codec) (message.Body, error) {
	read := func() ([]byte, error) { return readAll(from, r.MaxBody) }
	if !c.traced || codec == nil || length < 0 || length > r.MaxBody {
		return message.LazyBody(read, codec), nil
	}
	data, err := read()
	return message.NewBody(data, codec), err
}

// readAll is bounded.
func readAll(body io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(body, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, tooLarge(most)
	}
	return data, nil
}

func tooLarge(most int64) *message.Refusal {
	return &message.Refusal{Why: message.TooLarge, Detail: fmt.Sprintf("the shim translates no more than %d bytes", most)}
}

// codecOf is nil where a body is not JSON, or is compressed.
func codecOf(header http.Header) message.Codec {
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	plain := header.Get("Content-Encoding") == "" || header.Get("Content-Encoding") == "identity"
	if plain && (kind == "application/json" || strings.HasSuffix(kind, "+json")) {
		return message.JSON{}
	}
	return nil
}
