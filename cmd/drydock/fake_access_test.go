package main

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/orchestrator/audit"
)

var _ drydockv1connect.AccessServiceHandler = (*fakeController)(nil)

func (f *fakeController) CreateUser(_ context.Context, r *connect.Request[v1.CreateUserRequest]) (*connect.Response[v1.CreateUserResponse], error) {
	f.record("CreateUser", &v1.CreateUserRequest{Name: r.Msg.Name, Role: r.Msg.Role}) // the key is another each time
	user := someUsers()[0]
	user.Name, user.Role = r.Msg.Name, r.Msg.Role
	return answer(&v1.CreateUserResponse{User: user, Certificate: []byte("certificate\n"), Ca: []byte("ca\n")}, f.fault("user", r.Msg.Name))
}

func (f *fakeController) ListUsers(_ context.Context, r *connect.Request[v1.ListUsersRequest]) (*connect.Response[v1.ListUsersResponse], error) {
	f.record("ListUsers", r.Msg)
	if f.empty {
		return answer(&v1.ListUsersResponse{}, nil)
	}
	return answer(&v1.ListUsersResponse{Users: someUsers()}, nil)
}

func (f *fakeController) RemoveUser(_ context.Context, r *connect.Request[v1.RemoveUserRequest]) (*connect.Response[v1.RemoveUserResponse], error) {
	f.record("RemoveUser "+r.Header().Get(audit.ReasonHeader), r.Msg)
	if r.Msg.Name == "lacking" {
		err := connect.NewError(connect.CodePermissionDenied, errors.New("user anna has the role viewer, and \"user rm\" needs admin: ask an admin"))
		if detail, failed := connect.NewErrorDetail(&v1.Refusal{Reason: "user anna has the role viewer, and \"user rm\" needs admin", Remedy: "ask an admin"}); failed == nil {
			err.AddDetail(detail)
		}
		return nil, err
	}
	return answer(&v1.RemoveUserResponse{}, f.fault("user", r.Msg.Name))
}

func (f *fakeController) ListEvents(_ context.Context, r *connect.Request[v1.ListEventsRequest], s *connect.ServerStream[v1.ListEventsResponse]) error {
	f.record("ListEvents", r.Msg)
	if f.empty {
		return nil
	}
	for _, e := range someEvents() {
		if err := s.Send(&v1.ListEventsResponse{Event: e}); err != nil {
			return err
		}
	}
	return nil
}

func someUsers() []*v1.User {
	return []*v1.User{
		{Name: "anna", Role: "operator", Created: timestamppb.New(theTime()), Expires: timestamppb.New(theTime().AddDate(0, 3, 0)), Serial: "a1"},
		{Name: "bob", Role: "viewer", Created: timestamppb.New(theTime().AddDate(0, 0, -1)), Expires: timestamppb.New(theTime().AddDate(0, 2, 0)), Serial: "b2"},
	}
}

func someEvents() []*v1.Event {
	at := timestamppb.New(theTime())
	return []*v1.Event{
		{Id: "1", Time: at, Actor: "user anna", Verb: "host drain", Object: "host h1", Reason: "new memory", Outcome: "done", Detail: "2 pods moved, 0 left", Ended: at, Controller: "c1"},
		{Id: "2", Time: at, Actor: "user bob", Verb: "host rm", Object: "host", Outcome: "refused", Detail: "user bob has the role viewer", Ended: at, Controller: "c1"},
		{Id: "3", Time: at, Actor: "uid 0", Verb: "pod stop", Object: "pod web", Outcome: "begun", Controller: "c1"},
	}
}

var _ drydockv1connect.ClusterServiceHandler = (*fakeController)(nil)

func (f *fakeController) ListControllers(_ context.Context, r *connect.Request[v1.ListControllersRequest]) (*connect.Response[v1.ListControllersResponse], error) {
	f.record("ListControllers", r.Msg)
	return answer(&v1.ListControllersResponse{Controllers: []*v1.ControllerInfo{
		{Name: "c1", State: "ready", Address: "10.77.0.2:7440", Peer: "https://10.77.0.2:7442"},
		{Name: "c2", State: "leads", Address: "10.77.0.3:7440", Peer: "https://10.77.0.3:7442"},
		{Name: "c3", State: "silent", Peer: "https://10.77.0.4:7442"},
	}}, nil)
}

func (f *fakeController) CreateControllerToken(_ context.Context, r *connect.Request[v1.CreateControllerTokenRequest]) (*connect.Response[v1.CreateControllerTokenResponse], error) {
	f.record("CreateControllerToken "+r.Header().Get(audit.ReasonHeader), r.Msg)
	return answer(&v1.CreateControllerTokenResponse{Token: "drydock1.c2VjcmV0.cGlu",
		Expires: timestamppb.New(theTime().Add(r.Msg.Ttl.AsDuration()))}, f.fault("controller", r.Msg.Name))
}

func (f *fakeController) RemoveController(_ context.Context, r *connect.Request[v1.RemoveControllerRequest]) (*connect.Response[v1.RemoveControllerResponse], error) {
	f.record("RemoveController", r.Msg)
	return answer(&v1.RemoveControllerResponse{}, f.fault("controller", r.Msg.Name))
}

func (f *fakeController) JoinController(context.Context, *connect.Request[v1.JoinControllerRequest]) (*connect.Response[v1.JoinControllerResponse], error) {
	return nil, connect.NewError(connect.CodePermissionDenied, errors.New("controllers join, operators do not"))
}
