package pki

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	rpc "drydock/api/drydock/v1/drydockv1connect"
)

func user(name string, rights Rights) *Identity {
	return &Identity{Kind: User, Name: name, Rights: rights}
}

func TestEveryProcedureOfEveryServiceHasARule(t *testing.T) {
	agents := map[protoreflect.FullName]bool{rpc.AgentServiceName: true, rpc.ReceiveServiceName: true, rpc.PatchServiceName: true}
	policy := ControllerPolicy()
	known := make(map[string]bool)
	protoregistry.GlobalFiles.RangeFilesByPackage("drydock.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				procedure := "/" + string(methods.Get(j).Parent().FullName()) + "/" + string(methods.Get(j).Name())
				known[procedure] = true
				rule := policy.Rule(procedure)
				if agents[methods.Get(j).Parent().FullName()] {
					if rule != (Rule{}) {
						t.Errorf("a controller serves %s, which is an agent's", procedure)
					}
					continue
				}
				if !rule.Anyone && !rule.Hosts && rule.Least == NoRights {
					t.Errorf("%s has no least role", procedure)
				}
				if (rule.Verb == "") != (rule.Object == "") {
					t.Errorf("%s changes something without saying what, or the reverse", procedure)
				}
			}
		}
		return true
	})
	for procedure := range policy {
		if !strings.HasSuffix(procedure, "/") && !known[procedure] {
			t.Errorf("there is no %s", procedure)
		}
	}
	if len(known) < 40 {
		t.Errorf("only %d procedures are known", len(known))
	}
}

func TestEachRoleMayWhatTheOnesBelowItMay(t *testing.T) {
	for procedure, least := range map[string]Rights{
		rpc.ControllerServiceListPodsProcedure:    ViewerRights,
		rpc.ControllerServiceRunPodProcedure:      OperatorRights,
		rpc.ControllerServiceBackupStoreProcedure: AdminRights,
		rpc.AccessServiceListEventsProcedure:      ViewerRights,
		rpc.AccessServiceCreateUserProcedure:      AdminRights,
	} {
		for _, rights := range []Rights{ViewerRights, OperatorRights, AdminRights} {
			err := ControllerPolicy().Check(procedure, user("anna", rights))
			if rights >= least && err != nil {
				t.Errorf("%s as %s: %v", procedure, rights, err)
			}
			if rights < least && (connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), "drydock user add NAME --role "+least.String())) {
				t.Errorf("%s as %s: %v", procedure, rights, err)
			}
		}
		if err := ControllerPolicy().Check(procedure, user("anna", NoRights)); err == nil {
			t.Errorf("%s as nobody", procedure)
		}
	}
}

func TestARoleIsReadAsItWasWritten(t *testing.T) {
	ca := newTestCA(t)
	for _, name := range Roles() {
		rights, err := ParseRole(name)
		if err != nil || rights.String() != name {
			t.Errorf("%s became %s, %v", name, rights, err)
		}
		keeper := keep(t, ca, *user("anna", rights), SystemClock{})
		if got := keeper.Identity(); got != *user("anna", rights) {
			t.Errorf("got %v", got)
		}
	}
	if _, err := ParseRole("root"); err == nil {
		t.Error("root is a role")
	}
	bundle, err := ca.Issue(*user("anna", NoRights))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeeper(t.TempDir(), bundle, ca.Certificate(), SystemClock{}); err == nil {
		t.Error("a user without role is known")
	}
}

// guarded is serve with a guard that change has made.
func guarded(t *testing.T, ca *CA, change func(*Guard)) string {
	t.Helper()
	guard := NewGuard(ControllerPolicy(), time.Now)
	change(guard)
	return serveWith(t, keep(t, ca, Identity{Kind: Controller, Name: "c1"}, SystemClock{}), guard)
}

func TestAUserWhoseCertificateIsGoodNoMoreIsRefused(t *testing.T) {
	ca := newTestCA(t)
	address := guarded(t, ca, func(g *Guard) {
		g.Users = func(_ context.Context, id Identity, serial string) error {
			if serial == "" || id.Name == "bob" {
				return errors.New("bob is gone")
			}
			return nil
		}
	})
	for name, want := range map[string]int{"anna": 200, "bob": 401} {
		client, base, err := Client(address, keep(t, ca, *user(name, ViewerRights), SystemClock{}), ExpectKind(Controller))
		if err != nil {
			t.Fatal(err)
		}
		if status, body, err := get(t, client, base+rpc.ControllerServiceListPodsProcedure); err != nil || status != want {
			t.Errorf("%s: %d %q, %v", name, status, body, err)
		}
	}
}

// behalf adds the header of a controller that passes a request on.
type behalf struct {
	http.RoundTripper
	operator Identity
}

func (b behalf) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	OnBehalf(r.Header, b.operator)
	return b.RoundTripper.RoundTrip(r)
}

func TestOnlyControllersAskForSomebodyElse(t *testing.T) {
	ca := newTestCA(t)
	var refused []string
	address := guarded(t, ca, func(g *Guard) {
		g.Refused = func(_ context.Context, id Identity, procedure string, _ error) {
			refused = append(refused, id.String()+" "+method(procedure))
		}
	})
	for _, test := range []struct {
		who, behalf Identity
		procedure   string
		status      int
		body        string
	}{
		{Identity{Kind: Controller, Name: "c2"}, *user("anna", ViewerRights), rpc.ControllerServiceListPodsProcedure, 200, "user anna"},
		{Identity{Kind: Controller, Name: "c2"}, *user("anna", ViewerRights), rpc.ControllerServiceRunPodProcedure, 403, "drydock user add"},
		{Identity{Kind: Controller, Name: "c2"}, Identity{Kind: Local, Name: "0"}, rpc.ControllerServiceRunPodProcedure, 200, "uid 0"},
		{Identity{Kind: Controller, Name: "c2"}, Identity{Kind: Host, Name: "h1"}, rpc.CoordinationServiceReportProcedure, 401, "unknown kind"},
		{*user("anna", ViewerRights), Admin(), rpc.ControllerServiceRunPodProcedure, 403, "user anna"},
		{Identity{Kind: Host, Name: "h1"}, Admin(), rpc.ControllerServiceRunPodProcedure, 403, "host h1"},
	} {
		client, base, err := Client(address, keep(t, ca, test.who, SystemClock{}), ExpectKind(Controller))
		if err != nil {
			t.Fatal(err)
		}
		client.Transport = behalf{client.Transport, test.behalf}
		status, body, err := get(t, client, base+test.procedure)
		if err != nil || status != test.status || !strings.Contains(body, test.body) {
			t.Errorf("%s for %s at %s: %d %q, %v", test.who, test.behalf, test.procedure, status, body, err)
		}
	}
	if got := strings.Join(refused, ", "); got != "user anna RunPod, user anna RunPod" {
		t.Errorf("told of %q", got)
	}
}
