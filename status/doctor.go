package status

import (
	"context"
	"fmt"
	"time"

	drydockv1 "drydock/api/drydock/v1"
)

// unproven is why a host can neither send nor take pods, as it has found out by trying; nil where it can, or was not tried.
func unproven(proof *drydockv1.RestoreProof) *drydockv1.Refusal {
	if proof.GetError() == "" {
		return nil
	}
	return &drydockv1.Refusal{
		Reason: "it cannot dump and restore a pod: " + proof.GetError(),
		Remedy: "install a kernel, CRIU and runc that go together (docs/criu.md), then run `drydock host doctor`",
	}
}

// Doctor turns what Inspect finds into checks that an operator can go through.
func (h *Host) Doctor(ctx context.Context) ([]*drydockv1.DoctorCheck, error) {
	h.mu.Lock()
	h.until = time.Time{}
	h.mu.Unlock()
	info, err := h.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	var checks []*drydockv1.DoctorCheck
	for _, c := range []struct{ name, detail string }{
		{"kernel", info.Kernel}, {"containerd", info.ContainerdVersion}, {"runc", info.RuncVersion}, {"criu", info.CriuVersion},
	} {
		checks = append(checks, &drydockv1.DoctorCheck{Name: c.name, Ok: c.detail != "", Detail: c.detail})
	}
	checks = append(checks, proofCheck(info.Proof))
	why := unproven(info.Proof)
	for _, p := range info.Problems {
		if p.Reason != why.GetReason() {
			checks = append(checks, &drydockv1.DoctorCheck{Name: "problem", Detail: p.Reason, Remedy: p.Remedy})
		}
	}
	return checks, nil
}

func proofCheck(proof *drydockv1.RestoreProof) *drydockv1.DoctorCheck {
	check := &drydockv1.DoctorCheck{Name: "dump and restore"}
	switch why := unproven(proof); {
	case proof == nil:
		check.Detail, check.Remedy = "it was not brought to its end: the host is busy, or has just begun", "run `drydock host doctor` again"
	case why != nil:
		check.Detail, check.Remedy = proof.GetError(), why.Remedy
	default:
		check.Ok = true
		check.Detail = fmt.Sprintf("a small pod was dumped and restored in %s at %s", proof.GetTook().AsDuration().Round(10*time.Millisecond),
			proof.GetTried().AsTime().UTC().Format(time.RFC3339))
	}
	return check
}
