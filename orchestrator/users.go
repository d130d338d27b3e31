package orchestrator

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/internal/pki"
	"drydock/orchestrator/store"
)

// accessService is AccessService, as the leader answers it.
type accessService struct{ c *Controller }

// CreateUser certifies a user's key.
func (s accessService) CreateUser(ctx context.Context, request *connect.Request[drydockv1.CreateUserRequest]) (*connect.Response[drydockv1.CreateUserResponse], error) {
	response, err := s.c.createUser(ctx, request.Msg)
	return respond(response, err)
}

// ListUsers lists those whose certificates are good.
func (s accessService) ListUsers(ctx context.Context, _ *connect.Request[drydockv1.ListUsersRequest]) (*connect.Response[drydockv1.ListUsersResponse], error) {
	items, err := store.List[drydockv1.User](ctx, s.c.store, keyUsers)
	users := make([]*drydockv1.User, 0, len(items))
	for _, item := range items {
		users = append(users, item.Value)
	}
	return respond(&drydockv1.ListUsersResponse{Users: users}, err)
}

// RemoveUser takes a user's rights away.
func (s accessService) RemoveUser(ctx context.Context, request *connect.Request[drydockv1.RemoveUserRequest]) (*connect.Response[drydockv1.RemoveUserResponse], error) {
	return respond(&drydockv1.RemoveUserResponse{}, s.c.removeUser(ctx, request.Msg.GetName()))
}

// ListEvents sends the record of changes.
func (s accessService) ListEvents(ctx context.Context, request *connect.Request[drydockv1.ListEventsRequest], stream *connect.ServerStream[drydockv1.ListEventsResponse]) error {
	return s.c.trail.List(ctx, request.Msg, func(event *drydockv1.Event) error {
		return stream.Send(&drydockv1.ListEventsResponse{Event: event})
	})
}

func noUser(name string) error { return notFound("user", name, "drydock user ls") }

// createUser makes the one certificate with which somebody of that name may do what the role may.
func (c *Controller) createUser(ctx context.Context, m *drydockv1.CreateUserRequest) (*drydockv1.CreateUserResponse, error) {
	what := "add user " + m.GetName()
	if !config.ValidName(m.GetName()) {
		return nil, invalid("user %q must be named with 1 to 63 of a-z, 0-9 and -", m.GetName())
	}
	rights, err := pki.ParseRole(m.GetRole())
	if err != nil {
		return nil, invalid("%s: %w", what, err)
	}
	certificate, err := c.ca.Sign(m.GetCertificateRequest(), pki.Identity{Kind: pki.User, Name: m.GetName(), Rights: rights})
	if err != nil {
		return nil, invalid("%s: %w", what, err)
	}
	block, _ := pem.Decode(certificate)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	user := &drydockv1.User{
		Name: m.GetName(), Role: m.GetRole(), Created: timestamppb.New(c.now()),
		Expires: timestamppb.New(parsed.NotAfter), Serial: parsed.SerialNumber.Text(16),
	}
	_, err = c.store.Txn().If(store.Unchanged(userKey(m.GetName()), 0)).Put(userKey(m.GetName()), user).Commit(ctx)
	if errors.Is(err, store.ErrConflict) {
		return nil, refuse(what, because("there is a user of that name", "choose another, or remove that one first: `drydock user rm "+m.GetName()+"`"))
	}
	return &drydockv1.CreateUserResponse{User: user, Certificate: certificate, Ca: c.ca.Certificate()}, err
}

func (c *Controller) removeUser(ctx context.Context, name string) error {
	item, err := store.Get[drydockv1.User](ctx, c.store, userKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return noUser(name)
	} else if err != nil {
		return err
	}
	_, err = c.store.Txn().If(store.Unchanged(item.Key, item.Revision)).Delete(item.Key).Commit(ctx)
	return err
}

// knownUser says why a user's certificate is no good: the user was removed, or has another one by now.
func (c *Controller) knownUser(ctx context.Context, id pki.Identity, serial string) error {
	ctx, cancel := c.call(ctx)
	defer cancel()
	item, err := store.Get[drydockv1.User](ctx, c.store, userKey(id.Name))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%s was removed: ask an admin for new credentials", id)
	case err != nil:
		return connect.NewError(connect.CodeUnavailable, fmt.Errorf("whether the certificate of %s is good is not known: %w", id, err))
	case item.Value.GetSerial() != serial:
		return fmt.Errorf("%s has been given another certificate: use that one, or ask an admin for a new one", id)
	}
	return nil
}
