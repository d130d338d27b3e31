package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"drydock/shim/proxy"
)

// Dir is where control sockets are, if nothing else is set.
const Dir = "/run/drydock/shim"

// Client speaks with a shim by its control socket.
type Client struct{ Socket string }

// Find is the clients of all control sockets in a directory, in the order of their names.
func Find(dir string) ([]Client, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	clients := make([]Client, len(paths))
	for i, path := range paths {
		clients[i] = Client{path}
	}
	return clients, err
}

// Name is what the shim is called: its socket's name.
func (c Client) Name() string { return strings.TrimSuffix(filepath.Base(c.Socket), ".sock") }

// RefusedError is what a shim answered instead of doing it.
type RefusedError struct {
	Status int
	Text   string
}

func (e *RefusedError) Error() string { return e.Text }

// State asks how the shim is.
func (c Client) State(ctx context.Context) (State, error) {
	var s State
	return s, c.call(ctx, http.MethodGet, "/state", &s)
}

// Reload makes the shim take up its configuration anew. A *RefusedError leaves the old one.
func (c Client) Reload(ctx context.Context) error {
	var s State
	return c.call(ctx, http.MethodPost, "/reload", &s)
}

// Trace waits for a call whose path begins with prefix.
func (c Client) Trace(ctx context.Context, prefix string, wait time.Duration) (proxy.Trace, error) {
	var t proxy.Trace
	return t, c.call(ctx, http.MethodGet, "/trace?"+url.Values{"path": {prefix}, "wait": {wait.String()}}.Encode(), &t)
}

// Metrics is what the shim counts, in Prometheus' text format.
func (c Client) Metrics(ctx context.Context) (string, error) {
	data, err := c.ask(ctx, http.MethodGet, "/metrics")
	return string(data), err
}

func (c Client) call(ctx context.Context, method, path string, into any) error {
	data, err := c.ask(ctx, method, path)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	return err
}

func (c Client) ask(ctx context.Context, method, path string) ([]byte, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.Socket)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, method, "http://shim"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("shim %s: %w", c.Name(), err)
	}
	data, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return nil, fmt.Errorf("shim %s: %w", c.Name(), err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, &RefusedError{answer.StatusCode, strings.TrimSpace(string(data))}
	}
	return data, nil
}
