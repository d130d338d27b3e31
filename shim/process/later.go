package process

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"drydock/shim/proxy"
)

// later is traces that were begun and are asked for again and again: whoever waits for one keeps no connection open, so that the pod
// with the shim can move meanwhile.
type later struct {
	mu    sync.Mutex
	count int
	begun map[string]*begun
}

// begun is one trace.
type begun struct {
	trace proxy.Trace
	err   error
	ended chan struct{}
}

const (
	// longestTrace bounds how long a call is waited for, and most how many are.
	longestTrace = 15 * time.Minute
	most         = 100
	// keptFor is how long an ended trace can be fetched.
	keptFor = time.Minute
)

var errTooMany = errors.New("too many traces wait for a call")

// begin waits for a call in the background.
func (l *later) begin(p *proxy.Proxy, prefix string, wait time.Duration) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.begun) >= most {
		return "", errTooMany
	}
	if l.begun == nil {
		l.begun = map[string]*begun{}
	}
	l.count++
	id, b := strconv.Itoa(l.count), &begun{ended: make(chan struct{})}
	l.begun[id] = b
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), min(wait, longestTrace))
		defer cancel()
		b.trace, b.err = p.Trace(ctx, prefix)
		close(b.ended)
		time.AfterFunc(keptFor, func() { l.forget(id) })
	}()
	return id, nil
}

func (l *later) of(id string) *begun {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun[id]
}

func (l *later) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.begun, id)
}

func (p *Process) serveBeginTrace(w http.ResponseWriter, r *http.Request) {
	wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err != nil {
		http.Error(w, "wait: "+err.Error(), http.StatusBadRequest)
		return
	}
	id, err := p.later.begin(p.proxy, r.URL.Query().Get("path"), wait)
	if err != nil {
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return
	}
	answer(w, id)
}

func (p *Process) serveBegunTrace(w http.ResponseWriter, r *http.Request) {
	b := p.later.of(r.PathValue("id"))
	if b == nil {
		http.Error(w, "no such trace", http.StatusNotFound)
		return
	}
	select {
	case <-b.ended:
	default:
		answer(w, nil)
		return
	}
	if b.err != nil {
		http.Error(w, "no call came", http.StatusGatewayTimeout)
		return
	}
	answer(w, b.trace)
}

// BeginTrace has the shim wait for a call whose path begins with prefix, and returns what Begun asks for it by.
func (c Client) BeginTrace(ctx context.Context, prefix string, wait time.Duration) (string, error) {
	var id string
	return id, c.call(ctx, http.MethodPost, "/traces?"+url.Values{"path": {prefix}, "wait": {wait.String()}}.Encode(), &id)
}

// Begun is a trace that was begun; nil where no call has come yet.
func (c Client) Begun(ctx context.Context, id string) (*proxy.Trace, error) {
	var t *proxy.Trace
	return t, c.call(ctx, http.MethodGet, "/traces/"+id, &t)
}
