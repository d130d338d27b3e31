package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/internal/pki"
	"drydock/orchestrator/store"
)

// The states of a controller.
const (
	controllerLeads      = "leads"
	controllerReady      = "ready"
	controllerSilent     = "silent"
	controllerCatchingUp = "catching-up"
)

// clusterService is ClusterService. The leader answers it, but for JoinController, which any controller does.
type clusterService struct{ c *Controller }

// ListControllers lists those that live, and those whose part of the store is known.
func (s clusterService) ListControllers(ctx context.Context, _ *connect.Request[drydockv1.ListControllersRequest]) (*connect.Response[drydockv1.ListControllersResponse], error) {
	controllers, err := s.c.controllers(ctx)
	return respond(&drydockv1.ListControllersResponse{Controllers: controllers}, err)
}

// CreateControllerToken makes a token for a controller.
func (s clusterService) CreateControllerToken(ctx context.Context, request *connect.Request[drydockv1.CreateControllerTokenRequest]) (*connect.Response[drydockv1.CreateControllerTokenResponse], error) {
	response, err := s.c.createControllerToken(ctx, request.Msg.GetName(), request.Msg.GetTtl().AsDuration())
	return respond(response, err)
}

// RemoveController takes a dead controller's part out of the store.
func (s clusterService) RemoveController(ctx context.Context, request *connect.Request[drydockv1.RemoveControllerRequest]) (*connect.Response[drydockv1.RemoveControllerResponse], error) {
	return respond(&drydockv1.RemoveControllerResponse{}, s.c.removeController(ctx, request.Msg.GetName()))
}

// JoinController lets a controller in that has a token.
func (s clusterService) JoinController(ctx context.Context, request *connect.Request[drydockv1.JoinControllerRequest]) (*connect.Response[drydockv1.JoinControllerResponse], error) {
	response, err := s.c.joinController(ctx, request.Msg)
	return respond(response, err)
}

// controllers are all that are known, by name.
func (c *Controller) controllers(ctx context.Context) ([]*drydockv1.ControllerInfo, error) {
	known := make(map[string]*drydockv1.ControllerInfo)
	members, err := c.store.Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		name, state := m.Name, controllerSilent
		if m.Learner {
			state = controllerCatchingUp
		}
		if len(members) == 1 {
			// A store that was always alone has another name than its controller.
			name = c.config.Name
		} else if name == "" {
			name = m.URL
		}
		known[name] = &drydockv1.ControllerInfo{Name: name, State: state, Peer: m.URL}
	}
	live, err := c.store.Candidates(ctx, keyLeader)
	if err != nil {
		return nil, err
	}
	for i, candidate := range live {
		info := known[candidate.Name]
		if info == nil {
			info = &drydockv1.ControllerInfo{Name: candidate.Name}
			known[candidate.Name] = info
		}
		info.Address = candidate.Address
		switch {
		case i == 0:
			info.State = controllerLeads
		case info.State != controllerCatchingUp:
			info.State = controllerReady
		}
	}
	list := make([]*drydockv1.ControllerInfo, 0, len(known))
	for _, name := range sortedKeys(known) {
		list = append(list, known[name])
	}
	return list, nil
}

// errNotShared refuses what needs a store that several controllers hold.
func (c *Controller) errNotShared(what string) error {
	if len(c.config.Etcd.Endpoints) > 0 {
		return refuse(what, because("the store is outside", "give the other controller the same `etcd.endpoints`: it needs no token"))
	}
	return refuse(what, because("the store of this controller is its own", "set `etcd.peer` in its configuration and start it again"))
}

func (c *Controller) createControllerToken(ctx context.Context, name string, ttl time.Duration) (*drydockv1.CreateControllerTokenResponse, error) {
	what := "let controller " + name + " join"
	switch {
	case !config.ValidName(name):
		return nil, invalid("controller %q must be named with 1 to 63 of a-z, 0-9 and -", name)
	case c.config.Etcd.Peer == "":
		return nil, c.errNotShared(what)
	}
	known, err := c.controllers(ctx)
	if err != nil {
		return nil, err
	}
	for _, other := range known {
		if other.GetName() == name {
			return nil, refuse(what, because("there is a controller of that name", "choose another name, or, where it is gone for good, run `drydock controller rm "+name+"` first"))
		}
	}
	token, expires, err := c.newToken(ctx, controllerTokenOf(name), ttl)
	return &drydockv1.CreateControllerTokenResponse{Token: token, Expires: expires}, err
}

// controllerTokenOf is what a controller's token is for. No host can be called so.
func controllerTokenOf(name string) string { return "controller/" + name }

// newToken makes a token that is good for one joining of whom, and no longer than ttl.
func (c *Controller) newToken(ctx context.Context, whom string, ttl time.Duration) (text string, expires *timestamppb.Timestamp, err error) {
	switch {
	case ttl < 0 || ttl > maxTokenLife:
		return "", nil, invalid("a join token cannot hold for %s: choose up to %s", ttl, maxTokenLife)
	case ttl == 0:
		ttl = defaultTokenLife
	}
	token, err := pki.NewToken(c.ca)
	if err != nil {
		return "", nil, err
	}
	expires = timestamppb.New(c.now().Add(ttl))
	record := &drydockv1.TokenRecord{Host: whom, Expires: expires}
	_, err = c.store.Txn().Put(tokenKey(token.Key()), record).Commit(ctx)
	return token.String(), expires, err
}

// joinController adds a part to the store, and hands the CA to the controller that will hold it.
func (c *Controller) joinController(ctx context.Context, m *drydockv1.JoinControllerRequest) (*drydockv1.JoinControllerResponse, error) {
	what := "join controller " + m.GetName()
	if _, err := netip.ParseAddrPort(m.GetPeer()); err != nil || !config.ValidName(m.GetName()) {
		return nil, invalid("%s: needs its name, and the ip:port of its store", what)
	}
	if err := speaks(what, m.GetName(), m.GetApi()); err != nil {
		return nil, err
	}
	token, err := c.validToken(ctx, m.GetToken(), controllerTokenOf(m.GetName()))
	if err != nil {
		return nil, err
	}
	members, err := c.store.AddMember(ctx, m.GetPeer())
	switch {
	case errors.Is(err, store.ErrAlone):
		return nil, c.errNotShared(what)
	case errors.Is(err, store.ErrNotYet):
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("%s: %w: see `drydock controller ls`", what, err))
	case err != nil:
		return nil, fmt.Errorf("%s: %w; see `drydock controller ls`", what, err)
	}
	bundle, err := c.ca.Encode()
	if err != nil {
		return nil, err
	}
	response := &drydockv1.JoinControllerResponse{Ca: bundle}
	for _, member := range members {
		name := member.Name
		if member.URL == store.PeerURL(m.GetPeer()) {
			name = m.GetName()
		}
		response.Peers = append(response.Peers, &drydockv1.StorePeer{Name: name, Url: member.URL})
	}
	if _, err := c.store.Txn().If(store.Unchanged(token.Key, token.Revision)).Delete(token.Key).Commit(ctx); errors.Is(err, store.ErrConflict) {
		return nil, errBadToken(wrongToken)
	} else if err != nil {
		return nil, err
	}
	c.log.Info("controller joins", "controller", m.GetName(), "store", m.GetPeer())
	c.record(pki.WithIdentity(ctx, pki.Identity{Kind: pki.Controller, Name: m.GetName()}), "join", "controller "+m.GetName(), "it has a token, and its store is at "+m.GetPeer(), nil)
	return response, nil
}

// removeController takes a controller's part out of the store. One that lives is not removed: it would not know.
func (c *Controller) removeController(ctx context.Context, name string) error {
	what := "remove controller " + name
	members, err := c.store.Members(ctx)
	if err != nil {
		return err
	}
	known, err := c.controllers(ctx)
	if err != nil {
		return err
	}
	for _, other := range known {
		if other.GetName() == name && other.GetAddress() != "" {
			return refuse(what, because("it lives", "stop it first, and wait until `drydock controller ls` calls it silent"))
		}
	}
	for _, m := range members {
		if m.Name == name || m.Name == "" && m.URL == name {
			return c.store.RemoveMember(ctx, m.ID)
		}
	}
	return notFound("controller", name, "drydock controller ls")
}

// promoteEvery is how often the leader looks whether a part of the store has caught up.
const promoteEvery = time.Second

func (c *Controller) promoteMembers(r *reign) {
	for sleep(r.ctx, promoteEvery) {
		if err := c.store.PromoteMembers(r.ctx); err != nil && r.ctx.Err() == nil {
			c.log.Warn("a controller's store has no vote yet", "error", err)
		}
	}
}
