package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/pki"
	"drydock/migrate/transfer"

	"golang.org/x/sys/unix"
)

// serve answers controllers and other agents over HTTP/2, and takes the connections that carry a migration's bytes: both
// come to the same address and are told apart by TLS.
func (a *agent) serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle(drydockv1connect.NewAgentServiceHandler(&agentServer{a}))
	mux.Handle(drydockv1connect.NewReceiveServiceHandler(&receiveServer{a}))
	mux.Handle(drydockv1connect.NewPatchServiceHandler(&patchServer{a}))
	guard := pki.NewGuard(pki.AgentPolicy(), time.Now)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	server := &http.Server{
		Handler:     guard.TLS(mux),
		TLSConfig:   withStreams(a.keeper.ServerTLS(false)),
		Protocols:   protocols,
		HTTP2:       &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
		BaseContext: func(net.Listener) context.Context { return ctx },
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			transfer.Protocol: func(_ *http.Server, conn *tls.Conn, _ http.Handler) { a.stream(ctx, conn) },
		},
	}
	config := net.ListenConfig{Control: limitSilence}
	listener, err := config.Listen(ctx, "tcp", a.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen at %s: %w; is another agent running, or the address not this host's?", a.cfg.Listen, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve at %s: %w", a.cfg.Listen, err)
	}
	return nil
}

// withStreams lets clients choose the protocol of a migration's bytes.
func withStreams(config *tls.Config) *tls.Config {
	base := config.GetConfigForClient
	config.NextProtos = []string{"h2", transfer.Protocol}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := base(hello)
		if err == nil {
			c.NextProtos = []string{"h2", transfer.Protocol}
		}
		return c, err
	}
	return config
}

// limitSilence makes the kernel give a connection up that waits too long for an acknowledgement.
func limitSilence(_, _ string, raw syscall.RawConn) error {
	var serr error
	err := raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	})
	return errors.Join(err, serr)
}

// helloWithin is how long either side of a new connection may take to say what it is for.
const helloWithin = 10 * time.Second

// stream takes one connection of a migration from another host.
func (a *agent) stream(ctx context.Context, conn *tls.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	peer, err := pki.IdentityOf(conn.ConnectionState().VerifiedChains[0][0])
	if err != nil || peer.Kind != pki.Host {
		return
	}
	var hello transfer.Hello
	_ = conn.SetDeadline(time.Now().Add(helloWithin))
	if err := transfer.ReadMessage(conn, &hello); err != nil {
		return
	}
	if err := transfer.WriteMessage(conn, transfer.Answer{}); err != nil {
		return
	}
	_ = conn.SetDeadline(time.Time{})
	if err := a.engine.Serve(ctx, conn, peer.Name, hello); err != nil && ctx.Err() == nil {
		a.log.Warn("connection of a migration", "from", peer.Name, "kind", hello.Kind, "name", hello.Name, "error", err)
	}
}
