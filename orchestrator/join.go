package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/internal/pki"
	"drydock/internal/version"
	"drydock/orchestrator/store"
)

// Lifetimes of join tokens.
const (
	defaultTokenLife = time.Hour
	maxTokenLife     = 7 * 24 * time.Hour
)

// createJoinToken makes a token with which one host may join, once.
func (c *Controller) createJoinToken(ctx context.Context, host string, ttl time.Duration) (*drydockv1.CreateJoinTokenResponse, error) {
	if !config.ValidName(host) {
		return nil, invalid("host %q must be named with 1 to 63 of a-z, 0-9 and -", host)
	}
	token, expires, err := c.newToken(ctx, host, ttl)
	return &drydockv1.CreateJoinTokenResponse{Token: token, Expires: expires}, err
}

// joinService is JoinService.
type joinService struct{ c *Controller }

// Join certifies a host that has a token, and enters it; the token is used up in the same transaction.
func (s joinService) Join(ctx context.Context, request *connect.Request[drydockv1.JoinRequest]) (*connect.Response[drydockv1.JoinResponse], error) {
	c, m := s.c, request.Msg
	address, _, err := net.SplitHostPort(m.GetAddress())
	if err != nil || m.GetBootId() == "" {
		return nil, invalid("join host %s: needs the agent's host:port and its boot id", m.GetHost())
	}
	if err := speaks("join host "+m.GetHost(), m.GetHost(), m.GetApi()); err != nil {
		return nil, err
	}
	token, err := c.validToken(ctx, m.GetToken(), m.GetHost())
	if err != nil {
		return nil, err
	}
	known, err := c.rejoinable(ctx, m.GetHost(), m.GetBootId())
	if err != nil {
		return nil, err
	}
	cert, err := c.ca.Sign(m.GetCertificateRequest(), pki.Identity{Kind: pki.Host, Name: m.GetHost()}, address)
	if err != nil {
		return nil, invalid("join host %s: %w", m.GetHost(), err)
	}
	record := &drydockv1.HostRecord{Name: m.GetHost(), Address: m.GetAddress(), BootId: m.GetBootId(), Joined: timestamppb.New(c.now())}
	_, err = c.store.Txn().
		If(store.Unchanged(token.Key, token.Revision), store.Unchanged(hostKey(m.GetHost()), known)).
		Delete(token.Key).Put(hostKey(m.GetHost()), record).Commit(ctx)
	if errors.Is(err, store.ErrConflict) {
		return nil, errBadToken(wrongToken)
	} else if err != nil {
		return nil, err
	}
	c.seen.see(m.GetHost())
	c.log.Info("host joined", "host", m.GetHost(), "address", m.GetAddress())
	c.record(pki.WithIdentity(ctx, pki.Identity{Kind: pki.Host, Name: m.GetHost()}), "join", "host "+m.GetHost(), "it has a token, and is at "+m.GetAddress(), nil)
	probe, _, err := c.probeAddresses(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&drydockv1.JoinResponse{
		Certificate: cert, Ca: c.ca.Certificate(), ProbeAddress: probe, Api: version.API,
	}), nil
}

// speaks refuses what a host asks for that is more than one version of the API apart.
func speaks(what, name string, api uint32) error {
	var mismatch *version.Mismatch
	if errors.As(version.Check("host "+name, version.API, api), &mismatch) {
		return refuse(what, because(mismatch.Reason(), mismatch.Remedy()))
	}
	return nil
}

// errBadToken says what is wrong with a token. Only who knows its secret learns more than that it is no good.
func errBadToken(why string) error {
	return connect.NewError(connect.CodeUnauthenticated,
		fmt.Errorf("join token %s: make a new one with `drydock host join` for this host", why))
}

// wrongToken is one that is not in the store: it never was, or is used up.
const wrongToken = "is not known here, or was used already"

func (c *Controller) validToken(ctx context.Context, text, host string) (store.Item[*drydockv1.TokenRecord], error) {
	var none store.Item[*drydockv1.TokenRecord]
	token, err := pki.ParseToken(text)
	if err != nil {
		return none, connect.NewError(connect.CodeUnauthenticated, err)
	}
	item, err := store.Get[drydockv1.TokenRecord](ctx, c.store, tokenKey(token.Key()))
	if errors.Is(err, store.ErrNotFound) {
		return none, errBadToken(wrongToken)
	} else if err != nil {
		return none, err
	}
	if item.Value.GetHost() != host {
		return none, errBadToken(fmt.Sprintf("is for host %s and not for %s", item.Value.GetHost(), host))
	}
	if expired := item.Value.GetExpires().AsTime(); c.now().After(expired) {
		return none, errBadToken("expired at " + expired.UTC().Format(time.RFC3339))
	}
	return item, nil
}

// rejoinable is the revision of the record that a joining host replaces. A host that holds pods cannot be replaced by
// another boot: the old one may still run them.
func (c *Controller) rejoinable(ctx context.Context, name, boot string) (int64, error) {
	item, err := store.Get[drydockv1.HostRecord](ctx, c.store, hostKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	if item.Value.GetBootId() == boot {
		return item.Revision, nil
	}
	pods, err := c.podsByHost(ctx)
	if err != nil {
		return 0, err
	}
	if len(pods[name]) > 0 {
		return 0, refuse("join host "+name, because(fmt.Sprintf("a host of that name holds %d pods in another boot", len(pods[name])),
			"move or remove its pods, then run `drydock host rm "+name+"`"))
	}
	return item.Revision, nil
}

// Renew certifies another key of the host that asks.
func (s joinService) Renew(ctx context.Context, request *connect.Request[drydockv1.RenewRequest]) (*connect.Response[drydockv1.RenewResponse], error) {
	h, err := s.c.caller(ctx)
	if err != nil {
		return nil, err
	}
	address, _, err := net.SplitHostPort(h.record.GetAddress())
	if err != nil {
		return nil, fmt.Errorf("address of host %s: %w", h.name(), err)
	}
	cert, err := s.c.ca.Sign(request.Msg.GetCertificateRequest(), pki.Identity{Kind: pki.Host, Name: h.name()}, address)
	if err != nil {
		return nil, invalid("renew the certificate of host %s: %w", h.name(), err)
	}
	return connect.NewResponse(&drydockv1.RenewResponse{Certificate: cert, Ca: s.c.ca.Certificate()}), nil
}

// caller is the host that a call came from: one that its certificate names, and that has not been removed since.
func (c *Controller) caller(ctx context.Context) (host, error) {
	id, ok := pki.FromContext(ctx)
	if !ok || id.Kind != pki.Host {
		return host{}, connect.NewError(connect.CodePermissionDenied, errors.New("only hosts may ask this"))
	}
	h, err := c.host(ctx, id.Name)
	if connect.CodeOf(err) == connect.CodeNotFound {
		return host{}, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("host %s was removed: join again with a new token", id.Name))
	}
	return h, err
}
