package pki

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
)

// Guard lets a request pass where its caller may call the procedure, and puts the caller's identity into the context.
type Guard struct {
	policy Policy
	now    func() time.Time
	errors *connect.ErrorWriter
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
		if err != nil {
			g.refuse(w, r, connect.NewError(connect.CodeUnauthenticated, err))
			return
		}
		g.serve(w, r, caller, next)
	})
}

// Socket guards requests that came over a unix socket, whose permissions say that every caller is id.
func (g *Guard) Socket(id Identity, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, &id, next) })
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
	if err != nil {
		return nil, err
	}
	return &id, nil
}

func (g *Guard) serve(w http.ResponseWriter, r *http.Request, caller *Identity, next http.Handler) {
	if err := g.policy.Check(r.URL.Path, caller); err != nil {
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
