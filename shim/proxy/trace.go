package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"drydock/shim/chain"
)

// maxPassages bounds what is kept of a call that is traced: a stream may have no end.
const maxPassages = 1000

// Trace is one call as it went through the shim.
type Trace struct {
	Began  time.Time `json:"began"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Client string    `json:"client"`
	Server string    `json:"server"`
	// Status is that of the answer; 0 where there was none.
	Status int           `json:"status"`
	Took   time.Duration `json:"took_ns"`
	// Error is why there was no answer from the server.
	Error    string          `json:"error,omitempty"`
	Passages []chain.Passage `json:"passages"`
	// Cut says that the call went on when the trace ended.
	Cut bool `json:"cut,omitempty"`
}

// Trace waits for the next call whose path begins with prefix, and tells what each translator made of it. Where ctx ends
// before the call does, what was seen until then comes back; where it ends before a call comes, its error.
func (p *Proxy) Trace(ctx context.Context, prefix string) (Trace, error) {
	w := &watch{prefix: prefix, done: make(chan struct{})}
	p.watches.add(w)
	defer p.watches.remove(w)
	select {
	case <-w.done:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.call == nil {
		return Trace{}, ctx.Err()
	}
	w.over = true
	out := w.trace
	out.Passages = slices.Clone(out.Passages)
	return out, nil
}

// watches are traces that wait for their call.
type watches struct {
	waiting atomic.Int64
	mu      sync.Mutex
	list    []*watch
}

// watch is one trace.
type watch struct {
	prefix string
	done   chan struct{}

	mu    sync.Mutex
	call  *call
	trace Trace
	over  bool
}

func (ws *watches) add(w *watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.list = append(ws.list, w)
	ws.waiting.Add(1)
}

func (ws *watches) remove(w *watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if i := slices.Index(ws.list, w); i >= 0 {
		ws.list = slices.Delete(ws.list, i, i+1)
		ws.waiting.Add(-1)
	}
}

// begin gives a call to the first trace that waits for it; nil where none does.
func (ws *watches) begin(c *call) *watch {
	if ws.waiting.Load() == 0 {
		return nil
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for i, w := range ws.list {
		if strings.HasPrefix(c.request.URL.Path, w.prefix) {
			ws.list = slices.Delete(ws.list, i, i+1)
			ws.waiting.Add(-1)
			w.take(c)
			return w
		}
	}
	return nil
}

func (w *watch) take(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.call = c
	w.trace = Trace{Began: time.Now(), Method: c.request.Method, Path: c.request.URL.RequestURI(), Cut: true}
	c.traced = true
	c.request = c.request.WithContext(chain.Watching(c.request.Context(), w.passage))
}

func (w *watch) passage(p chain.Passage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over && len(w.trace.Passages) < maxPassages {
		w.trace.Passages = append(w.trace.Passages, p)
	}
}

// end is called when a call has its answer, or has none. The trace ends with the answer's body.
func (w *watch) end(c *call, err error) {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.trace.Client = c.client
	if c.chain != nil {
		w.trace.Server = c.chain.Server()
	}
	if err != nil {
		w.trace.Error = err.Error()
	} else {
		w.trace.Status = c.response.StatusCode
	}
	w.mu.Unlock()
	if err != nil || c.response.Body == nil || c.response.StatusCode == http.StatusSwitchingProtocols {
		w.finish()
		return
	}
	c.response.Body = &watchedBody{c.response.Body, w}
}

func (w *watch) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.trace.Cut {
		w.trace.Cut = false
		w.trace.Took = time.Since(w.trace.Began)
		close(w.done)
	}
}

// watchedBody ends a trace with an answer's last byte.
type watchedBody struct {
	io.ReadCloser
	watch *watch
}

// Read reads, and sees the end.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.watch.finish()
	}
	return n, err
}

// Close is the end too.
func (b *watchedBody) Close() error {
	defer b.watch.finish()
	return b.ReadCloser.Close()
}
