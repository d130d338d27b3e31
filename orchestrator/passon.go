package orchestrator

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"connectrpc.com/connect"

	"drydock/internal/pki"
	"drydock/orchestrator/store"
)

const (
	// takeoverTime is how long an operator's call waits where the controller that leads does not answer: another one has taken over
	// by then.
	takeoverTime = 20 * time.Second
	// reachTime is how long the leader may take to accept a connection, TLS included.
	reachTime = 2 * time.Second
	// reachAgain is how often a leader that does not answer is looked for.
	reachAgain = 200 * time.Millisecond
)

// byLeader serves a call where this controller leads, and else passes an operator's on to the one that does. Where that one is dead
// or paused the call waits for the next: nothing of it was sent yet.
func (c *Controller) byLeader(next http.Handler) http.Handler {
	refusals := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		waiting, cancel := context.WithTimeout(r.Context(), takeoverTime)
		defer cancel()
		for {
			if reign, _ := c.reigning(); reign != nil {
				next.ServeHTTP(w, r.WithContext(withTerm(r.Context(), reign.term)))
				return
			}
			info, err := c.leader(r.Context())
			if connect.CodeOf(err) == connect.CodeUnavailable && sleep(waiting, reachAgain) {
				continue // nobody leads yet
			}
			if err != nil || info.Name == c.config.Name {
				// It is about to lead, and the handlers wait for that.
				next.ServeHTTP(w, r)
				return
			}
			id, _ := pki.FromContext(r.Context())
			if id.Holds() == pki.NoRights {
				// Only the leader's own eyes tell who a host is, and a call is passed on once at most.
				_ = refusals.Write(w, r, connect.NewError(connect.CodeUnavailable, fmt.Errorf("controller %s at %s leads: ask it", info.Name, info.Address)))
				return
			}
			conn, err := c.reach(waiting, info)
			if err == nil {
				passOn(conn, info, id, w, r)
				return
			}
			if !sleep(waiting, reachAgain) {
				_ = refusals.Write(w, r, connect.NewError(connect.CodeUnavailable, fmt.Errorf("controller %s, which leads, does not answer: %w", info.Name, err)))
				return
			}
		}
	})
}

// reach connects to the controller that leads.
func (c *Controller) reach(ctx context.Context, info store.Leader) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	return pki.Connect(ctx, info.Address, c.agents.keeper, func(id pki.Identity) error {
		if want := (pki.Identity{Kind: pki.Controller, Name: info.Name}); id != want {
			return fmt.Errorf("%s answers where %s should", id, want)
		}
		return nil
	})
}

// passOn has the controller at the other end of conn answer for this one.
func passOn(conn *tls.Conn, info store.Leader, operator pki.Identity, w http.ResponseWriter, r *http.Request) {
	client := pki.Over(conn)
	defer func() {
		client.CloseIdleConnections()
		_ = conn.Close()
	}()
	refusals := connect.NewErrorWriter()
	proxy := &httputil.ReverseProxy{
		Transport: client.Transport, FlushInterval: -1,
		Rewrite: func(out *httputil.ProxyRequest) {
			out.SetURL(&url.URL{Scheme: "https", Host: conn.RemoteAddr().String()})
			pki.OnBehalf(out.Out.Header, operator)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			_ = refusals.Write(w, r, connect.NewError(connect.CodeUnavailable, fmt.Errorf("controller %s, which leads, does not answer: %w", info.Name, err)))
		},
	}
	proxy.ServeHTTP(w, r)
}
