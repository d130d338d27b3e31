package pki

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// Guard lets a request pass where its caller may call the procedure, and puts the caller's identity into the context.
type Guard struct {
	policy Policy
	now    func() time.Time
	errors *connect.ErrorWriter
	// Users says why a user's certificate is good no more, by its serial number; nil: all are good until they end.
	Users func(ctx context.Context, user Identity, serial string) error
	// Refused is told of every operator who lacked the rights for something.
	Refused func(ctx context.Context, caller Identity, procedure string, err error)
}

// NewGuard makes a guard that goes by policy; now is the clock that certificates are checked with on every request, since
// connections outlive handshakes.
func NewGuard(policy Policy, now func() time.Time) *Guard {
	return &Guard{policy: policy, now: now, errors: connect.NewErrorWriter()}
}

// TLS guards requests that came over a connection made with Keeper.ServerTLS.
func (g *Guard) TLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := g.caller(r)
		if err == nil && caller != nil && caller.Kind == Controller {
			caller, err = onBehalf(r.Header, caller)
		}
		if err != nil {
			g.refuse(w, r, unauthenticated(err))
			return
		}
		g.serve(w, r, caller, next)
	})
}

// Socket guards requests that came over a unix socket, whose permissions say that every caller is an admin. The server's
// ConnContext must be SocketContext.
func (g *Guard) Socket(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := FromContext(r.Context())
		if !ok || id.Kind != Local {
			g.refuse(w, r, connect.NewError(connect.CodeUnauthenticated, errors.New("the kernel does not say who is at the other end of the socket")))
			return
		}
		g.serve(w, r, &id, next)
	})
}

// SocketContext notes who is at the other end of a unix socket, as the kernel says.
func SocketContext(ctx context.Context, conn net.Conn) context.Context {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *unix.Ucred
	controlled := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if controlled != nil || err != nil {
		return ctx
	}
	return WithIdentity(ctx, Identity{Kind: Local, Name: strconv.FormatUint(uint64(peer.Uid), 10)})
}

// behalfHeader names the operator for whom a controller asks another one.
const behalfHeader = "Drydock-On-Behalf"

// OnBehalf marks a request as passed on for an operator.
func OnBehalf(header http.Header, operator Identity) {
	header.Set(behalfHeader, operator.URI().String())
}

// onBehalf is the operator for whom a controller asks, or the controller where it asks for itself.
func onBehalf(header http.Header, controller *Identity) (*Identity, error) {
	text := header.Get(behalfHeader)
	if text == "" {
		return controller, nil
	}
	uri, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s names nobody to ask for: %w", controller, err)
	}
	operator, err := parseURI(uri, Role, User, Local)
	if err != nil {
		return nil, fmt.Errorf("%s asks for somebody who %w", controller, err)
	}
	return &operator, nil
}

// unauthenticated is err on the wire: with the code that it has, or as one about who the caller is.
func unauthenticated(err error) error {
	if connect.CodeOf(err) != connect.CodeUnknown {
		return err
	}
	return connect.NewError(connect.CodeUnauthenticated, err)
}

func (g *Guard) caller(r *http.Request) (*Identity, error) {
	if r.TLS == nil {
		return nil, errors.New("connection is not encrypted")
	}
	if len(r.TLS.VerifiedChains) == 0 {
		return nil, nil
	}
	cert := r.TLS.VerifiedChains[0][0]
	if g.now().After(cert.NotAfter) {
		return nil, fmt.Errorf("certificate of %q ended at %s: join again", cert.Subject.CommonName, cert.NotAfter.Format(time.RFC3339))
	}
	id, err := IdentityOf(cert)
	if err == nil && id.Kind == User && g.Users != nil {
		err = g.Users(r.Context(), id, cert.SerialNumber.Text(16))
	}
	if err != nil {
		return nil, err
	}
	return &id, nil
}

func (g *Guard) serve(w http.ResponseWriter, r *http.Request, caller *Identity, next http.Handler) {
	if err := g.policy.Check(r.URL.Path, caller); err != nil {
		if caller != nil && caller.Holds() != NoRights && g.Refused != nil {
			g.Refused(r.Context(), *caller, r.URL.Path, err)
		}
		g.refuse(w, r, err)
		return
	}
	if caller != nil {
		r = r.WithContext(WithIdentity(r.Context(), *caller))
	}
	next.ServeHTTP(w, r)
}

func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if !g.errors.IsSupported(r) {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	// The client that cannot be told has gone.
	_ = g.errors.Write(w, r, err)
}

type identityKey struct{}

// WithIdentity puts a verified identity into a context.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// FromContext is the verified identity of the caller, where there is one.
func FromContext(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}
