package orchestrator

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"connectrpc.com/connect"

	"drydock/internal/pki"
	"drydock/orchestrator/refusal"
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
// or paused, or nobody leads yet, the call waits: nothing of it was sent.
func (c *Controller) byLeader(next http.Handler) http.Handler {
	refusals := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := pki.FromContext(r.Context())
		here, there, err := c.findLeader(r.Context(), caller)
		switch {
		case err != nil:
			_ = refusals.Write(w, r, connect.NewError(connect.CodeUnavailable, err))
		case here != nil:
			next.ServeHTTP(w, r.WithContext(withTerm(r.Context(), here.term)))
		default:
			there.answer(caller, w, r)
		}
	})
}

// otherLeader is a connection to the controller that leads.
type otherLeader struct {
	store.Leader
	conn *tls.Conn
}

// findLeader waits until this controller leads, or has a connection to the one that does.
func (c *Controller) findLeader(ctx context.Context, caller pki.Identity) (here *reign, there *otherLeader, err error) {
	operator := caller.Holds() != pki.NoRights
	patience := takeoverTime
	if !operator {
		patience = c.config.Timings.CallTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		here, changed := c.reigning()
		if here != nil {
			return here, nil, nil
		}
		info, err := c.leader(ctx)
		switch {
		case err != nil || info.Name == c.config.Name: // which is about to lead
		case !operator:
			// Only the leader's own eyes tell who a host is, and a call is passed on once at most.
			return nil, nil, fmt.Errorf("controller %s at %s leads: ask it", info.Name, info.Address)
		default:
			if there, err = c.reach(ctx, info); err == nil {
				return nil, there, nil
			}
		}
		var again <-chan time.Time
		if operator {
			// Hosts are many: they do not have the store read over and over while they wait.
			again = time.After(reachAgain)
		}
		if !either(ctx, changed, again) {
			return nil, nil, cmp.Or(err, refusal.ErrNobodyLeads)
		}
	}
}

// either waits for one of two, and says whether ctx is still alive.
func either(ctx context.Context, changed <-chan struct{}, again <-chan time.Time) bool {
	select {
	case <-changed:
	case <-again:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// reach connects to the controller that leads.
func (c *Controller) reach(ctx context.Context, info store.Leader) (*otherLeader, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	conn, err := pki.Connect(ctx, info.Address, c.agents.keeper, func(id pki.Identity) error {
		if want := (pki.Identity{Kind: pki.Controller, Name: info.Name}); id != want {
			return fmt.Errorf("%s answers where %s should", id, want)
		}
		return nil
	})
	if err != nil {
		return nil, silent(info, err)
	}
	return &otherLeader{Leader: info, conn: conn}, nil
}

func silent(leader store.Leader, err error) error {
	return fmt.Errorf("controller %s, which leads, does not answer: %w", leader.Name, err)
}

// answer has the controller that leads answer an operator, and ends the connection to it.
func (o *otherLeader) answer(operator pki.Identity, w http.ResponseWriter, r *http.Request) {
	client := pki.Over(o.conn)
	defer func() {
		client.CloseIdleConnections()
		_ = o.conn.Close()
	}()
	refusals := connect.NewErrorWriter()
	proxy := &httputil.ReverseProxy{
		Transport: client.Transport, FlushInterval: -1,
		Rewrite: func(out *httputil.ProxyRequest) {
			out.SetURL(&url.URL{Scheme: "https", Host: o.conn.RemoteAddr().String()})
			pki.OnBehalf(out.Out.Header, operator)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			_ = refusals.Write(w, r, connect.NewError(connect.CodeUnavailable, silent(o.Leader, err)))
		},
	}
	proxy.ServeHTTP(w, r)
}
