package pki

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"

	"connectrpc.com/connect"
)

// answering counts what reaches a host.
type answering struct {
	drydockv1connect.UnimplementedReceiveServiceHandler

	mu    sync.Mutex
	calls int
	fail  error
}

func (a *answering) count() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	return a.fail
}

func (a *answering) Check(context.Context, *connect.Request[drydockv1.ReceiveCheckRequest]) (*connect.Response[drydockv1.ReceiveCheckResponse], error) {
	return connect.NewResponse(new(drydockv1.ReceiveCheckResponse)), a.count()
}

func (a *answering) Discard(context.Context, *connect.Request[drydockv1.ReceiveDiscardRequest]) (*connect.Response[drydockv1.ReceiveDiscardResponse], error) {
	return connect.NewResponse(new(drydockv1.ReceiveDiscardResponse)), a.count()
}

// halfOpen relays connections to an address. Those that are there when it is forgotten look sound, and are reset at the
// first byte that comes.
type halfOpen struct {
	net.Listener
	to string

	mu        sync.Mutex
	forgotten map[*net.TCPConn]bool
}

func (h *halfOpen) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.forgotten {
		h.forgotten[conn] = true
	}
}

func (h *halfOpen) run() {
	for {
		conn, err := h.Accept()
		if err != nil {
			return
		}
		client := conn.(*net.TCPConn)
		h.mu.Lock()
		h.forgotten[client] = false
		h.mu.Unlock()
		go h.relay(client)
	}
}

func (h *halfOpen) relay(client *net.TCPConn) {
	defer client.Close()
	server, err := net.Dial("tcp", h.to)
	if err != nil {
		return
	}
	defer server.Close()
	go io.Copy(client, server)
	buffer := make([]byte, 32<<10)
	for {
		n, err := client.Read(buffer)
		h.mu.Lock()
		forgotten := h.forgotten[client]
		h.mu.Unlock()
		if forgotten {
			_ = client.SetLinger(0)
			return
		}
		if err != nil {
			return
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestAQuestionThatWasLostWithItsConnectionIsAskedAgain(t *testing.T) {
	host := new(answering)
	mux := http.NewServeMux()
	mux.Handle(drydockv1connect.NewReceiveServiceHandler(host))
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	relay := &halfOpen{Listener: listener, to: server.Listener.Addr().String(), forgotten: make(map[*net.TCPConn]bool)}
	go relay.run()
	client := drydockv1connect.NewReceiveServiceClient(server.Client(), "https://"+listener.Addr().String(), connect.WithInterceptors(AskAgain()))
	check := func() error {
		_, err := client.Check(t.Context(), connect.NewRequest(new(drydockv1.ReceiveCheckRequest)))
		return err
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	relay.forget()
	if err := check(); err != nil {
		t.Errorf("over a half-open connection: %v", err)
	}
	relay.forget()
	if _, err := client.Discard(t.Context(), connect.NewRequest(new(drydockv1.ReceiveDiscardRequest))); err == nil {
		t.Error("what is no question was asked again, or the connection was not reset")
	}
	host.fail = connect.NewError(connect.CodeUnavailable, io.EOF)
	before := host.calls
	if err := check(); connect.CodeOf(err) != connect.CodeUnavailable || host.calls != before+1 {
		t.Errorf("an answer was asked for %d times: %v", host.calls-before, err)
	}
}
