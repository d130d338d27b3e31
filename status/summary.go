package status

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"

	"google.golang.org/protobuf/proto"
)

// namedPackages is how many packages a summary names.
const namedPackages = 5

// Summarize is the status at a glance.
func Summarize(status *drydockv1.HostStatus) *drydockv1.StatusSummary {
	s := &drydockv1.StatusSummary{Faults: make(map[string]int32), RebootCauses: make(map[string]int32), Unknown: make(map[string]string)}
	for part, state := range map[string]*drydockv1.PartState{
		"kernel": status.GetKernel().GetState(), "packages": status.GetPackages().GetState(),
		"reboot": status.GetReboot().GetState(), "processes": status.GetProcesses().GetState(),
	} {
		if state.GetError() != "" {
			s.Unknown[part] = state.Error
		}
		if at := state.GetCollected(); s.Collected == nil || at.AsTime().Before(s.Collected.AsTime()) {
			s.Collected = at
		}
	}
	addUpdates(s, status.GetPackages().GetUpdates())
	addSources(s, status.GetPackages().GetSources())
	s.Problems = append(s.Problems, status.GetPackages().GetProblems()...)
	s.RebootRequired = status.GetReboot().GetRequired()
	for _, reason := range status.GetReboot().GetReasons() {
		s.RebootReasons = append(s.RebootReasons, reason.Text)
		s.RebootCauses[causeName(reason.Cause)]++
	}
	for _, p := range status.GetProcesses().GetStale() {
		s.StaleProcesses++
		if p.Pod != "" {
			s.StaleInPods++
			s.StalePods = append(s.StalePods, p.Pod)
		}
	}
	slices.Sort(s.StalePods)
	s.StalePods = slices.Compact(s.StalePods)
	return s
}

func addUpdates(s *drydockv1.StatusSummary, updates []*drydockv1.PackageUpdate) {
	for _, u := range updates {
		s.Updates++
		if u.Held || len(u.Blocked) > 0 {
			s.BlockedUpdates++
		}
		if u.Security {
			s.SecurityUpdates++
			if len(s.SecurityPackages) < namedPackages {
				s.SecurityPackages = append(s.SecurityPackages, u.Name)
			}
		}
	}
}

func addSources(s *drydockv1.StatusSummary, sources []*drydockv1.PackageSource) {
	for _, source := range sources {
		if at := source.Confirmed; at != nil && (s.MetadataConfirmed == nil || at.AsTime().Before(s.MetadataConfirmed.AsTime())) {
			s.MetadataConfirmed = at
		}
		for _, p := range source.Problems {
			s.Faults[faultName(p.Fault)]++
			s.Problems = append(s.Problems, &drydockv1.Refusal{Reason: fmt.Sprintf("source %s: %s", source.Id, p.Reason), Remedy: p.Remedy})
		}
	}
}

// faultName is the fault as tables and metrics have it: bad-signature.
func faultName(f drydockv1.MetadataFault) string { return word(f.String(), "METADATA_FAULT_") }

func causeName(c drydockv1.RebootCause) string { return word(c.String(), "REBOOT_CAUSE_") }

func word(enum, prefix string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(enum, prefix), "_", "-"))
}

// Digest changes with everything in a status but the times at which its parts were looked at.
func Digest(status *drydockv1.HostStatus) string {
	same := proto.CloneOf(status)
	for _, state := range []*drydockv1.PartState{
		same.GetKernel().GetState(), same.GetPackages().GetState(), same.GetReboot().GetState(), same.GetProcesses().GetState(),
	} {
		if state != nil {
			state.Collected = nil
		}
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(same)
	if err != nil {
		return "" // equal to no other: it is sent
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
