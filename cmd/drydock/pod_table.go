package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "drydock/api/drydock/v1"
)

func (a *app) podRows(t *table, pods []*v1.Pod) {
	t.row("NAME", "PHASE", "HOST", "ADDRESS", "IMAGE", "RESTARTS", "AGE", "MESSAGE")
	for _, p := range pods {
		restarts := int32(0)
		for _, c := range p.Containers {
			restarts += c.Restarts
		}
		t.row(p.GetSpec().GetName(), phaseWord(p.Phase), podPlace(p), podAddresses(p), podImages(p),
			fmt.Sprint(restarts), a.age(p.Created), p.Message)
	}
}

// podPlace is the pod's host; for one that moves, both.
func podPlace(p *v1.Pod) string {
	if p.Destination != "" {
		return p.Host + " -> " + p.Destination
	}
	return p.Host
}

// podAddresses leaves out the prefix lengths: the address is what clients connect to.
func podAddresses(p *v1.Pod) string {
	var out []string
	for _, address := range p.GetSpec().GetAddresses() {
		ip, _, _ := strings.Cut(address, "/")
		out = append(out, ip)
	}
	return strings.Join(out, ",")
}

func podImages(p *v1.Pod) string {
	var out []string
	for _, c := range p.GetSpec().GetContainers() {
		if !slices.Contains(out, c.Image) {
			out = append(out, c.Image)
		}
	}
	return strings.Join(out, ",")
}

// printPodLine says where a pod is, after it was made to start or stop.
func (a *app) printPodLine(p *v1.Pod) error {
	return a.print(message{p}, func(t *table) { t.line("%s", podLine(p)) })
}

func podLine(p *v1.Pod) string {
	line := fmt.Sprintf("pod %s %s on %s", p.GetSpec().GetName(), phaseWord(p.Phase), podPlace(p))
	if addresses := podAddresses(p); addresses != "" {
		line += " at " + addresses
	}
	if p.Message != "" {
		line += ": " + p.Message
	}
	return line
}

// podTable shows what an operator looks for in one pod; -o yaml has all of it.
func (a *app) podTable(t *table, p *v1.Pod) {
	s := p.GetSpec()
	t.field("Name", s.GetName())
	t.field("Phase", phaseWord(p.Phase))
	t.field("Message", p.Message)
	t.field("Host", podPlace(p))
	t.field("Migration", p.Migration)
	t.field("Epoch", fmt.Sprint(p.Epoch))
	t.field("Created", moment(p.Created))
	t.field("Hostname", s.GetHostname())
	t.field("Addresses", strings.Join(s.GetAddresses(), ", "))
	t.field("Gateway", s.GetGateway())
	t.field("MAC", s.GetMac())
	t.field("Restart", restartWord(s.GetRestartPolicy()))
	t.field("Affinity", s.GetAffinity())
	t.field("Host lost", lostWord(s.GetOnHostLost()))
	t.field("Post-copy", yesNo(s.GetAllowPostcopy()))
	if s.GetPortable() {
		t.field("Portable", yesNo(true))
	}
	t.field("Labels", pairs(s.GetLabels()))
	for _, v := range s.GetVolumes() {
		t.field("Volume", v.Name+" "+volumeKind(v))
	}
	t.section("", "CONTAINER", "IMAGE", "STATE", "PID", "RESTARTS", "HEALTHY", "MEMORY", "STARTED")
	for _, c := range s.GetContainers() {
		a.containerRow(t, c, p.Containers)
	}
}

func (a *app) containerRow(t *table, c *v1.Container, all []*v1.ContainerStatus) {
	i := slices.IndexFunc(all, func(s *v1.ContainerStatus) bool { return s.Name == c.Name })
	if i < 0 {
		t.row(c.Name, c.Image, "absent", "", "", "", "", "")
		return
	}
	s := all[i]
	state := s.State
	if s.State == "stopped" {
		state += fmt.Sprintf(" (%d)", s.ExitCode)
	}
	pid, healthy := "", ""
	if s.Pid != 0 {
		pid = fmt.Sprint(s.Pid)
	}
	if s.Healthy != nil {
		healthy = joinWords(yesNo(*s.Healthy), parenthesised(s.HealthMessage))
	}
	t.row(c.Name, c.Image, state, pid, fmt.Sprint(s.Restarts), healthy, size(s.MemoryBytes), a.age(s.Started))
}

func pairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ", ")
}

func volumeKind(v *v1.Volume) string {
	switch k := v.Kind.(type) {
	case *v1.Volume_Shared_:
		return "shared " + k.Shared.Path
	case *v1.Volume_Memory_:
		return joinWords("memory", size(k.Memory.SizeBytes))
	}
	return "local"
}
