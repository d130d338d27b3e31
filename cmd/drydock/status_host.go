package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "drydock/api/drydock/v1"
)

// hostStatus shows one host, the pods that it holds and what it lacks.
func (a *app) hostStatus(ctx context.Context, c *client, name string, refresh bool) error {
	lacks, err := askStatus(ctx, c, name, refresh)
	if err != nil {
		return err
	}
	host, err := ask(ctx, c, c.GetHost, &v1.GetHostRequest{Name: name})
	if err != nil {
		return err
	}
	if refresh {
		host.Host.Summary = lacks.Summary
	}
	pods, err := ask(ctx, c, c.ListPods, &v1.ListPodsRequest{Host: name})
	if err != nil {
		return err
	}
	document := map[string]any{"host": message{host.Host}, "pods": messages(pods.Pods), "status": message{cmp.Or(lacks.Status, &v1.HostStatus{})}}
	return a.print(document, func(t *table) {
		a.hostRows(t, []*v1.Host{host.Host})
		if len(pods.Pods) > 0 {
			t.line("")
			a.podRows(t, pods.Pods)
		}
		a.statusTables(t, host.Host, lacks.Status)
		o := overview{hosts: []*v1.Host{host.Host}, pods: pods.Pods}
		o.attentionSection(t)
	})
}

func askStatus(ctx context.Context, c *client, name string, refresh bool) (*v1.GetHostStatusResponse, error) {
	req := &v1.GetHostStatusRequest{Name: name, Refresh: refresh}
	if refresh {
		return wait(ctx, c.GetHostStatus, req)
	}
	return ask(ctx, c, c.GetHostStatus, req)
}

// statusTables show what a host lacks, and where that was learned.
func (a *app) statusTables(t *table, h *v1.Host, s *v1.HostStatus) {
	if s == nil {
		return
	}
	t.line("")
	t.field("Kernel", joinWords(s.GetKernel().GetRunning(), parenthesised(s.GetKernel().GetRunningVersion())))
	t.field("  installed", kernelNames(s.GetKernel().GetInstalled()))
	if k := s.GetKernel().GetAvailable(); k != nil {
		t.field("  available", kernelNames([]*v1.Kernel{k}))
	}
	t.field("Up", took(h.GetInfo().GetUptime()))
	t.field("Load", loadText(h.GetInfo().GetLoad()))
	for _, f := range h.GetInfo().GetFilesystems() {
		t.field("Room in "+f.Path, fmt.Sprintf("%s of %s", orZero(f.AvailableBytes), orZero(f.Bytes)))
	}
	if updates := s.GetPackages().GetUpdates(); len(updates) > 0 {
		t.section("", "PACKAGE", "FROM", "TO", "ORIGIN", "WHY", blank)
		for _, u := range updates {
			t.row(u.Name, u.From, u.To, u.Origin, updateReason(u), blockedText(u))
		}
	}
	if sources := s.GetPackages().GetSources(); len(sources) > 0 {
		t.section("", "SOURCE", "DATE", "CONFIRMED", "VERIFIED")
		for _, source := range sources {
			verified := "yes"
			if len(source.Problems) > 0 {
				verified = "no: " + source.Problems[0].Reason
			}
			t.row(source.Id, a.age(source.Date), a.age(source.Confirmed), verified)
		}
	}
	if stale := s.GetProcesses().GetStale(); len(stale) > 0 {
		t.section("", "PROCESS", "PID", "IN", "REPLACED")
		for _, p := range stale {
			in := p.Unit
			if p.Pod != "" {
				in = "pod " + p.Pod
			}
			t.row(p.Command, fmt.Sprint(p.Pid), in, strings.Join(p.Files, " "))
		}
	}
}

func kernelNames(kernels []*v1.Kernel) string {
	var names []string
	for _, k := range kernels {
		names = append(names, joinWords(k.Release, parenthesised(k.Version)))
	}
	return strings.Join(names, ", ")
}

func loadText(load []float64) string {
	var out []string
	for _, value := range load {
		out = append(out, fmt.Sprintf("%.2f", value))
	}
	return strings.Join(out, " ")
}

// updateReason says why the update is wanted: advisories where they are known.
func updateReason(u *v1.PackageUpdate) string {
	switch {
	case len(u.Advisories) > 3:
		return fmt.Sprintf("%s and %d more", strings.Join(u.Advisories[:3], " "), len(u.Advisories)-3)
	case len(u.Advisories) > 0:
		return strings.Join(u.Advisories, " ")
	case u.Security:
		return "security"
	case u.From == "":
		return "needed by another"
	}
	return "newer"
}

func blockedText(u *v1.PackageUpdate) string {
	switch {
	case len(u.Blocked) > 0:
		return "blocked: " + u.Blocked[0].Reason
	case u.Held:
		return "held"
	}
	return blank
}

// updatesCell is how many updates there are: 12 (3 security, 1 blocked). What sources that cannot be believed keep back is not
// known, so that is said beside it.
func updatesCell(s *v1.StatusSummary) string {
	if s == nil || s.Unknown["packages"] != "" && s.Updates == 0 {
		return "unknown"
	}
	var parts []string
	if s.SecurityUpdates > 0 {
		parts = append(parts, fmt.Sprintf("%d security", s.SecurityUpdates))
	}
	if s.BlockedUpdates > 0 {
		parts = append(parts, fmt.Sprintf("%d blocked", s.BlockedUpdates))
	}
	if len(s.Faults) > 0 {
		parts = append(parts, "not all sources verified")
	}
	return joinWords(fmt.Sprint(s.Updates), parenthesised(strings.Join(parts, ", ")))
}

func rebootCell(s *v1.StatusSummary) string {
	switch {
	case s == nil || !s.RebootRequired && s.Unknown["reboot"] != "":
		return "unknown"
	case s.RebootRequired:
		return "required"
	}
	return "no"
}

// staleCell is how many processes run replaced code: 4 (1 in pods).
func staleCell(s *v1.StatusSummary) string {
	switch {
	case s == nil || s.Unknown["processes"] != "" && s.StaleProcesses == 0:
		return "unknown"
	case s.StaleInPods > 0:
		return fmt.Sprintf("%d (%d in pods)", s.StaleProcesses, s.StaleInPods)
	}
	return fmt.Sprint(s.StaleProcesses)
}

// needs lists what a host lacks, and why.
func needs(name string, s *v1.StatusSummary) []string {
	if s == nil {
		return nil
	}
	var out []string
	say := func(format string, args ...any) {
		out = append(out, "host "+name+fmt.Sprintf(format, args...))
	}
	if s.SecurityUpdates > 0 {
		names := strings.Join(s.SecurityPackages, ", ")
		if more := int(s.SecurityUpdates) - len(s.SecurityPackages); more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		say(" lacks security updates: %s", names)
	}
	for _, reason := range s.RebootReasons {
		say(" needs a reboot: %s", reason)
	}
	if len(s.StalePods) > 0 {
		say(": pods run code that was replaced on disk: %s", strings.Join(s.StalePods, ", "))
	}
	for _, p := range s.Problems {
		say(": %s; remedy: %s", p.Reason, p.Remedy)
	}
	parts := make([]string, 0, len(s.Unknown))
	for part := range s.Unknown {
		parts = append(parts, part)
	}
	slices.Sort(parts)
	for _, part := range parts {
		say(": %s not known: %s", part, s.Unknown[part])
	}
	return out
}
