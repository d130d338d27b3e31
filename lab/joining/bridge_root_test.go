//go:build root

package joining

import (
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab/rig"
)

const notCarried = "does not carry a pod's MAC"

func TestWherePodsAreToBeOnTheSwitchMovesAreRefusedUntilItCarriesTheirMACs(t *testing.T) {
	r := secured(t, 2, "bridge")
	for _, name := range r.Hosts() {
		h := host(t, r, name)
		if h.State != "ready" || h.Info.Network != "bridge" || !linked(h, "failed") || !strings.Contains(h.Message, notCarried) {
			t.Fatalf("host %s is %s: network %s, %q, links %v", name, h.State, h.Info.Network, h.Message, h.Links)
		}
	}
	runRedis(t, r)
	for _, dry := range []bool{true, false} {
		err := migrate(t, r, dry)
		reasons := refusals(err)
		if len(reasons) != 1 || !strings.Contains(reasons[0].Reason, notCarried) || !strings.Contains(reasons[0].Remedy, "network.kind: vxlan") {
			t.Errorf("dry run %t: %v: %v", dry, err, reasons)
		}
	}
	if refusals := drain(t, r, "h1"); len(refusals) != 1 || !strings.Contains(refusals[0].Reason, notCarried) || refusals[0].Remedy == "" {
		t.Errorf("the drain refuses with %v", refusals)
	}
	if check := doctor(t, r, "h1"); check.Ok || !strings.Contains(check.Detail, notCarried) || check.Remedy == "" {
		t.Errorf("doctor says %v", check)
	}
	// The remedy: the switch carries several MACs.
	for _, name := range r.Hosts() {
		in(t, r, "switch", "nft", "delete", "table", "netdev", "p-"+name)
	}
	if check := doctor(t, r, "h1"); !check.Ok {
		t.Errorf("doctor says %v", check)
	}
	if h := host(t, r, "h2"); !linked(h, "proven") || h.Message != "" {
		t.Errorf("host h2: %q, links %v", h.Message, h.Links)
	}
	if err := migrate(t, r, false); err != nil {
		t.Error(err)
	}
}

// refusals are the reasons and remedies in an answer.
func refusals(err error) []*drydockv1.Refusal {
	var answer *connect.Error
	if !errors.As(err, &answer) {
		return nil
	}
	var found []*drydockv1.Refusal
	for _, detail := range answer.Details() {
		if value, err := detail.Value(); err == nil {
			if reason, ok := value.(*drydockv1.Refusal); ok {
				found = append(found, reason)
			}
		}
	}
	return found
}

func migrate(t *testing.T, r *rig.Rig, dry bool) error {
	t.Helper()
	stream, err := r.MigratePod(t.Context(), connect.NewRequest(&drydockv1.MigratePodRequest{Pod: "cache", To: "h2", DryRun: dry}))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if report := stream.Msg().GetReport(); report != nil && report.Outcome != drydockv1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED {
			t.Errorf("the report is %v", report)
		}
	}
	return stream.Err()
}

func drain(t *testing.T, r *rig.Rig, name string) []*drydockv1.Refusal {
	t.Helper()
	stream, err := r.DrainHost(t.Context(), connect.NewRequest(&drydockv1.DrainHostRequest{Name: name}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var summary *drydockv1.DrainSummary
	for stream.Receive() {
		if s := stream.Msg().GetSummary(); s != nil {
			summary = s
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ResumeHost(t.Context(), connect.NewRequest(&drydockv1.ResumeHostRequest{Name: name})); err != nil {
		t.Fatal(err)
	}
	return summary.GetRefusals()
}

// doctor is what a host finds of the other one.
func doctor(t *testing.T, r *rig.Rig, name string) *drydockv1.DoctorCheck {
	t.Helper()
	res, err := r.DoctorHost(t.Context(), connect.NewRequest(&drydockv1.DoctorHostRequest{Name: name}))
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range res.Msg.Checks {
		if strings.HasPrefix(check.Name, "reaches ") {
			return check
		}
	}
	t.Fatalf("doctor does not try the network: %v", res.Msg.Checks)
	return nil
}
