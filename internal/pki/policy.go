package pki

import (
	"cmp"
	"fmt"
	"strings"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	rpc "drydock/api/drydock/v1/drydockv1connect"
)

// Rule says who may call a procedure.
type Rule struct {
	// Anyone, also without certificate.
	Anyone bool
	// Least are the fewest rights that an operator needs; NoRights: no operator may.
	Least Rights
	// Hosts and Controllers are all of their kind.
	Hosts       bool
	Controllers bool
	// Verb is what a call does, in the command line's words, where it changes something; Object is the kind of what it changes.
	Verb, Object string
}

// Policy has a rule for each procedure (/package.Service/Method) or whole service (/package.Service/). What it does not name
// is refused.
type Policy map[string]Rule

// ControllerPolicy is what a controller serves to whom. Controllers are among those who may ask what operators may: they pass on
// what they were asked themselves.
func ControllerPolicy() Policy {
	view := Rule{Least: ViewerRights, Controllers: true}
	change := func(least Rights, verb, object string) Rule {
		return Rule{Least: least, Controllers: true, Verb: verb, Object: object}
	}
	return Policy{
		rpc.ControllerServiceGetVersionProcedure:      view,
		rpc.ControllerServiceCreateJoinTokenProcedure: change(AdminRights, "host join", "host"),
		rpc.ControllerServiceListHostsProcedure:       view,
		rpc.ControllerServiceGetHostProcedure:         view,
		rpc.ControllerServiceDrainHostProcedure:       change(OperatorRights, "host drain", "host"),
		rpc.ControllerServiceResumeHostProcedure:      change(OperatorRights, "host resume", "host"),
		rpc.ControllerServiceConfirmHostDeadProcedure: change(AdminRights, "host confirm-dead", "host"),
		rpc.ControllerServiceRemoveHostProcedure:      change(AdminRights, "host rm", "host"),
		rpc.ControllerServiceDoctorHostProcedure:      {Least: OperatorRights, Controllers: true},
		rpc.ControllerServiceGetHostStatusProcedure:   view,
		rpc.ControllerServiceImportImageProcedure:     change(OperatorRights, "image import", "image"),
		rpc.ControllerServicePullImageProcedure:       change(OperatorRights, "image pull", "image"),
		rpc.ControllerServiceListImagesProcedure:      view,
		rpc.ControllerServiceRunPodProcedure:          change(OperatorRights, "pod run", "pod"),
		rpc.ControllerServiceListPodsProcedure:        view,
		rpc.ControllerServiceGetPodProcedure:          view,
		rpc.ControllerServiceStartPodProcedure:        change(OperatorRights, "pod start", "pod"),
		rpc.ControllerServiceStopPodProcedure:         change(OperatorRights, "pod stop", "pod"),
		rpc.ControllerServiceRemovePodProcedure:       change(OperatorRights, "pod rm", "pod"),
		rpc.ControllerServiceExecPodProcedure:         change(OperatorRights, "pod exec", "pod"),
		rpc.ControllerServiceGetPodLogsProcedure:      view,
		rpc.ControllerServiceMigratePodProcedure:      change(OperatorRights, "migrate", "pod"),
		rpc.ControllerServiceListMigrationsProcedure:  view,
		rpc.ControllerServiceGetMigrationProcedure:    view,
		// A backup holds the CA's key.
		rpc.ControllerServiceBackupStoreProcedure: change(AdminRights, "store backup", "store"),

		rpc.AccessServiceCreateUserProcedure: change(AdminRights, "user add", "user"),
		rpc.AccessServiceListUsersProcedure:  view,
		rpc.AccessServiceRemoveUserProcedure: change(AdminRights, "user rm", "user"),
		rpc.AccessServiceListEventsProcedure: view,

		rpc.RolloutServiceListPoolsProcedure:     view,
		rpc.RolloutServicePlanPoolProcedure:      view,
		rpc.RolloutServiceStartRolloutProcedure:  change(OperatorRights, "patch", "pool"),
		rpc.RolloutServiceListRolloutsProcedure:  view,
		rpc.RolloutServiceGetRolloutProcedure:    view,
		rpc.RolloutServiceWatchRolloutProcedure:  view,
		rpc.RolloutServicePauseRolloutProcedure:  change(OperatorRights, "rollout pause", "rollout"),
		rpc.RolloutServiceResumeRolloutProcedure: change(OperatorRights, "rollout resume", "rollout"),
		rpc.RolloutServiceAbortRolloutProcedure:  change(OperatorRights, "rollout abort", "rollout"),
		rpc.RolloutServiceApproveGateProcedure:   change(OperatorRights, "rollout approve", "rollout"),

		rpc.UpgradeServiceApplyServiceProcedure:  change(OperatorRights, "service apply", "service"),
		rpc.UpgradeServiceListServicesProcedure:  view,
		rpc.UpgradeServiceGetServiceProcedure:    view,
		rpc.UpgradeServiceRemoveServiceProcedure: change(OperatorRights, "service rm", "service"),
		rpc.UpgradeServiceSetFlagProcedure:       change(OperatorRights, "service flag", "service"),
		rpc.UpgradeServiceStartUpgradeProcedure:  change(OperatorRights, "service upgrade", "service"),
		rpc.UpgradeServiceListUpgradesProcedure:  view,
		rpc.UpgradeServiceGetUpgradeProcedure:    view,
		rpc.UpgradeServiceWatchUpgradeProcedure:  view,
		rpc.UpgradeServicePauseUpgradeProcedure:  change(OperatorRights, "upgrade pause", "upgrade"),
		rpc.UpgradeServiceResumeUpgradeProcedure: change(OperatorRights, "upgrade resume", "upgrade"),
		rpc.UpgradeServiceAbortUpgradeProcedure:  change(OperatorRights, "upgrade abort", "upgrade"),

		rpc.ShimServiceSetPodShimProcedure:   change(OperatorRights, "pod shim", "pod"),
		rpc.ShimServiceGetPodShimProcedure:   view,
		rpc.ShimServiceListPodShimsProcedure: view,
		// A trace shows what is in a call.
		rpc.ShimServiceTracePodShimProcedure: change(OperatorRights, "shim trace", "pod"),

		rpc.ClusterServiceListControllersProcedure:       view,
		rpc.ClusterServiceCreateControllerTokenProcedure: change(AdminRights, "controller join", "controller"),
		rpc.ClusterServiceRemoveControllerProcedure:      change(AdminRights, "controller rm", "controller"),
		rpc.ClusterServiceJoinControllerProcedure:        {Anyone: true},

		service(rpc.CoordinationServiceName): {Hosts: true},
		rpc.JoinServiceJoinProcedure:         {Anyone: true},
		rpc.JoinServiceRenewProcedure:        {Hosts: true},
	}
}

// AgentPolicy is what an agent serves to whom.
func AgentPolicy() Policy {
	return Policy{
		service(rpc.AgentServiceName):       {Controllers: true},
		rpc.AgentServiceReadBlobProcedure:   {Controllers: true, Hosts: true},
		service(rpc.PatchServiceName):       {Controllers: true},
		service(rpc.ReceiveServiceName):     {Hosts: true},
		rpc.ReceiveServiceGetStateProcedure: {Hosts: true, Controllers: true},
	}
}

func service(name string) string { return "/" + name + "/" }

// Rule is the one for a procedure.
func (p Policy) Rule(procedure string) Rule {
	rule, ok := p[procedure]
	if !ok {
		rule = p[procedure[:strings.LastIndexByte(procedure, '/')+1]]
	}
	return rule
}

// Check returns nil where caller, nil for one without certificate, may call procedure, and else a Connect error.
func (p Policy) Check(procedure string, caller *Identity) error {
	rule := p.Rule(procedure)
	switch {
	case rule.Anyone:
		return nil
	case caller == nil:
		return connect.NewError(connect.CodeUnauthenticated,
			fmt.Errorf("%s needs a client certificate: a host joins with a token, an operator uses the credentials that an admin made with `drydock user add`", procedure))
	case rule.Hosts && caller.Kind == Host, rule.Controllers && caller.Kind == Controller:
		return nil
	case rule.Least != NoRights && caller.Holds() >= rule.Least:
		return nil
	case rule.Least != NoRights && caller.Holds() != NoRights:
		return lacks(cmp.Or(rule.Verb, method(procedure)), *caller, rule.Least)
	}
	return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("%s may not call %s", caller, procedure))
}

// lacks is the refusal of an operator who has too few rights.
func lacks(what string, caller Identity, least Rights) error {
	reason := fmt.Sprintf("%s has the role %s, and %q needs %s", caller, caller.Holds(), what, least)
	remedy := fmt.Sprintf("ask an admin for credentials with that role: `drydock user add NAME --role %s`", least)
	err := connect.NewError(connect.CodePermissionDenied, fmt.Errorf("%s: %s", reason, remedy))
	if detail, failed := connect.NewErrorDetail(&drydockv1.Refusal{Reason: reason, Remedy: remedy}); failed == nil {
		err.AddDetail(detail)
	}
	return err
}

func method(procedure string) string { return procedure[strings.LastIndexByte(procedure, '/')+1:] }
