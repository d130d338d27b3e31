package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/pki"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/rollout"
	"drydock/orchestrator/store"
	"drydock/orchestrator/upgrade"
)

// shutdownTime is how long open calls may take to end when the controller stops.
const shutdownTime = 3 * time.Second

// self is how this controller appears to the others when it leads.
func (c *Controller) self() store.Leader {
	return store.Leader{Name: c.config.Name, Address: cmp.Or(c.config.Advertise, c.config.Listen)}
}

func (c *Controller) leader(ctx context.Context) (store.Leader, error) {
	leader, err := c.store.Leader(ctx, keyLeader)
	if errors.Is(err, store.ErrNotFound) {
		return leader, refusal.ErrNobodyLeads
	}
	return leader, err
}

// handler is everything that a controller serves, before anybody is let in.
func (c *Controller) handler() http.Handler {
	mux := http.NewServeMux()
	whole := connect.WithInterceptors(c.trail.Interceptor(), refusal.Interceptor{})
	// Agents get an answer in good time, also while the store is away: that it is not known.
	short := connect.WithHandlerOptions(connect.WithInterceptors(refusal.Interceptor{}, c.limit()), uncompressed())
	path, service := drydockv1connect.NewControllerServiceHandler(controllerService{c}, whole)
	mux.Handle(path, c.byLeader(service))
	path, service = drydockv1connect.NewAccessServiceHandler(accessService{c}, whole)
	mux.Handle(path, c.byLeader(service))
	path, service = drydockv1connect.NewClusterServiceHandler(clusterService{c}, whole)
	mux.Handle(path, c.byLeader(service))
	mux.Handle(drydockv1connect.ClusterServiceJoinControllerProcedure, service)
	path, service = drydockv1connect.NewRolloutServiceHandler(rolloutService{rollout.Server{Rollouts: c.rollouts}, c}, whole)
	mux.Handle(path, c.byLeader(service))
	path, service = drydockv1connect.NewUpgradeServiceHandler(upgrade.Server{Services: c.services}, whole, connect.WithReadMaxBytes(recordAtMost))
	mux.Handle(path, c.byLeader(service))
	path, service = drydockv1connect.NewShimServiceHandler(shimService{c}, whole)
	mux.Handle(path, c.byLeader(service))
	mux.Handle(drydockv1connect.NewJoinServiceHandler(joinService{c}, short))
	path, service = drydockv1connect.NewCoordinationServiceHandler(coordinationService{c}, short)
	mux.Handle(path, service)
	mux.Handle(drydockv1connect.CoordinationServiceBeginMoveProcedure, c.byLeader(service))
	mux.Handle(drydockv1connect.CoordinationServiceReportProcedure, c.byLeader(service))
	return mux
}

// recordAtMost bounds an upgrade record with the files beside it, in bytes.
const recordAtMost = 80 << 20

// uncompressed spares the time, and the memory for each host, that compressing what is small costs.
func uncompressed() connect.HandlerOption { return connect.WithCompression("gzip", nil, nil) }

// limit gives every call the configured time.
func (c *Controller) limit() connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
			ctx, cancel := c.call(ctx)
			defer cancel()
			return next(ctx, request)
		}
	}
}

// listeners are where a controller serves: over TLS for all, and on a socket for operators on the same machine.
type listeners struct{ tls, socket net.Listener }

func listen(ctx context.Context, address, socket string) (listeners, error) {
	var config net.ListenConfig
	overTLS, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return listeners{}, fmt.Errorf("listen on %s: is another controller running? %w", address, err)
	}
	local, err := listenSocket(ctx, socket)
	if err != nil {
		return listeners{}, errors.Join(err, overTLS.Close())
	}
	return listeners{tls: overTLS, socket: local}, nil
}

// listenSocket makes a unix socket that only its owner can use. The data directory's lock has shown that no other controller
// of it lives, so a socket that is there is a dead one's, unless somebody answers.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of %s: %w", path, err)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return nil, errors.Join(fmt.Errorf("%s is in use by another controller: stop it, or set `socket`", path), conn.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var chmod error
		err := raw.Control(func(fd uintptr) { chmod = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmod)
	}}
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return listener, nil
}

// serve answers on both listeners until ctx ends.
func (c *Controller) serve(ctx context.Context, on listeners) error {
	guard := pki.NewGuard(pki.ControllerPolicy(), c.now)
	guard.Users, guard.Refused = c.knownUser, c.trail.RecordRefused
	handler := c.handler()
	local := http.NewServeMux()
	local.Handle("/metrics", c.metrics())
	local.Handle("/", guard.Socket(handler))
	overTLS := c.server(guard.TLS(handler))
	overTLS.TLSConfig = c.agents.keeper.ServerTLS(true)
	onSocket := c.server(local)
	onSocket.ConnContext = pki.SocketContext
	failed := make(chan error, 2)
	go func() { failed <- overTLS.ServeTLS(on.tls, "", "") }()
	go func() { failed <- onSocket.Serve(on.socket) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve: %w", err)
	}
	closed := make(chan error, 1)
	go func() { closed <- shutdown(onSocket) }()
	return errors.Join(err, shutdown(overTLS), <-closed)
}

func (c *Controller) server(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: handler, Protocols: protocols, ReadHeaderTimeout: 10 * time.Second,
		HTTP2:    &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
}

func shutdown(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close()
	}
	return nil
}
