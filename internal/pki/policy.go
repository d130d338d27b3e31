package pki

import (
	"fmt"
	"strings"

	"connectrpc.com/connect"

	"drydock/api/drydock/v1/drydockv1connect"
)

// Rule says who may call a procedure.
type Rule struct {
	// Anyone, also without certificate.
	Anyone bool
	// Admin is an operator.
	Admin bool
	// Hosts and Controllers are all of their kind.
	Hosts       bool
	Controllers bool
}

// Policy has a rule for each procedure (/package.Service/Method) or whole service (/package.Service/). What it does not name
// is refused.
type Policy map[string]Rule

// ControllerPolicy is what a controller serves to whom.
func ControllerPolicy() Policy {
	return Policy{
		service(drydockv1connect.ControllerServiceName):   {Admin: true, Controllers: true},
		service(drydockv1connect.RolloutServiceName):      {Admin: true, Controllers: true},
		service(drydockv1connect.CoordinationServiceName): {Hosts: true},
		drydockv1connect.JoinServiceJoinProcedure:         {Anyone: true},
		drydockv1connect.JoinServiceRenewProcedure:        {Hosts: true},
	}
}

// AgentPolicy is what an agent serves to whom.
func AgentPolicy() Policy {
	return Policy{
		service(drydockv1connect.AgentServiceName):       {Controllers: true},
		drydockv1connect.AgentServiceReadBlobProcedure:   {Controllers: true, Hosts: true},
		service(drydockv1connect.PatchServiceName):       {Controllers: true},
		service(drydockv1connect.ReceiveServiceName):     {Hosts: true},
		drydockv1connect.ReceiveServiceGetStateProcedure: {Hosts: true, Controllers: true},
	}
}

func service(name string) string { return "/" + name + "/" }

// Check returns nil where caller, nil for one without certificate, may call procedure, and else a Connect error.
func (p Policy) Check(procedure string, caller *Identity) error {
	rule, ok := p[procedure]
	if !ok {
		rule = p[procedure[:strings.LastIndexByte(procedure, '/')+1]]
	}
	switch {
	case rule.Anyone:
		return nil
	case caller == nil:
		return connect.NewError(connect.CodeUnauthenticated,
			fmt.Errorf("%s needs a client certificate: a host joins with a token, an operator uses the controller's admin credentials", procedure))
	case rule.Admin && *caller == Admin(), rule.Hosts && caller.Kind == Host, rule.Controllers && caller.Kind == Controller:
		return nil
	}
	return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("%s may not call %s", caller, procedure))
}
