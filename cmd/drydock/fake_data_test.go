package main

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "drydock/api/drydock/v1"
	"drydock/status"
)

func someHosts() []*v1.Host {
	info := &v1.HostInfo{
		Kernel: "6.12.94", Os: "Debian 13", Arch: "amd64", CpuModel: "Haswell", Cpus: 2,
		MemoryBytes: 8 << 30, MemoryAvailableBytes: 5 << 30, DiskAvailableBytes: 90 << 30,
		AgentVersion: "v1.2.3", Api: 1, ContainerdVersion: "1.7.24", RuncVersion: "1.1.15", CriuVersion: "4.2.1",
		CriuFeatures: map[string]bool{"lazy_pages": true, "mem_dirty_track": false}, CgroupVersion: 2,
		Uptime: durationpb.New(50 * time.Hour), Network: "bridge", NetworkReason: "the switch carries foreign MACs", Simulated: true,
	}
	info.Load = []float64{0.5, 0.25, 0.125}
	info.Filesystems = []*v1.Filesystem{{Path: "/", Bytes: 100 << 30, AvailableBytes: 90 << 30}, {Path: "/boot", Bytes: 512 << 20, AvailableBytes: 200 << 20}}
	sick := proto.CloneOf(info)
	sick.Problems = []*v1.Refusal{{Reason: "swap is on", Remedy: "swapoff -a"}}
	return []*v1.Host{
		{Name: "h1", Address: "10.77.0.1:7443", BootId: "b-1", State: "ready", LastSeen: ago(3 * time.Second), Info: info,
			Pods: []string{"redis", "web"}, Links: []*v1.HostLink{link("h2"), broken("h3")},
			Summary: status.Summarize(someStatus())},
		{Name: "h2", Address: "10.77.0.2:7443", BootId: "b-2", State: "cordoned", LastSeen: ago(2 * time.Second), Info: sick,
			Links: []*v1.HostLink{link("h1")}},
		{Name: "h3", Address: "10.77.0.3:7443", BootId: "b-3", State: "unreachable", Message: "no answer since 11:48",
			LastSeen: ago(12 * time.Minute), Pods: []string{"pg"}},
	}
}

// someStatus is of a host that lacks this and that.
func someStatus() *v1.HostStatus {
	known := func() *v1.PartState { return &v1.PartState{Collected: ago(time.Minute)} }
	newer := &v1.Kernel{Release: "6.12.117", Package: "linux-image-6.12.117", Version: "6.12.117-1"}
	return &v1.HostStatus{
		Kernel: &v1.KernelStatus{State: known(), Running: "6.12.94", RunningVersion: "6.12.94-1", Available: newer,
			Installed: []*v1.Kernel{{Release: "6.12.94", Package: "linux-image-6.12.94", Version: "6.12.94-1"}}},
		Packages: &v1.PackageStatus{State: known(), Manager: "apt",
			Sources: []*v1.PackageSource{
				{Id: "http://deb.debian.org/debian trixie", Suite: "trixie", Date: ago(50 * time.Hour), Confirmed: ago(time.Hour)},
				{Id: "http://example.org/lab lab", Suite: "lab", Date: ago(900 * time.Hour), Confirmed: ago(time.Hour), Problems: []*v1.MetadataProblem{{
					Fault: v1.MetadataFault_METADATA_FAULT_EXPIRED, Reason: "it expired on 2026-11-01T00:00:00Z", Remedy: "ask its keeper"}}},
			},
			Updates: []*v1.PackageUpdate{
				{Name: "libssl3t64", Arch: "amd64", From: "3.5.1-1", To: "3.5.4-1", Origin: "Debian-Security/stable-security", Security: true,
					Sources: []string{"http://deb.debian.org/debian trixie"}, Advisories: []string{"CVE-2026-0001", "DSA-6001-1"}},
				{Name: "nano", Arch: "amd64", From: "8.4-1", To: "8.5-1", Origin: "lab", Sources: []string{"http://example.org/lab lab"},
					Blocked: []*v1.Refusal{{Reason: "source http://example.org/lab lab: it expired on 2026-11-01T00:00:00Z", Remedy: "ask its keeper"}}},
				{Name: "tzdata", Arch: "all", From: "2026a-1", To: "2026b-1", Origin: "Debian/stable", Held: true},
			}},
		Reboot: &v1.RebootStatus{State: known(), Required: true, Reasons: []*v1.RebootReason{
			{Cause: v1.RebootCause_REBOOT_CAUSE_CORE_PACKAGE, Text: "libc6 replaced since the boot of 2026-11-19 10:00", Packages: []string{"libc6"}}}},
		Processes: &v1.ProcessStatus{State: &v1.PartState{Collected: ago(time.Minute), Error: "process 12: permission denied"}, Stale: []*v1.StaleProcess{
			{Pid: 410, Command: "sshd", Unit: "ssh.service", Files: []string{"/usr/lib/libc.so.6"}},
			{Pid: 500, Command: "redis-server", Pod: "redis", Files: []string{"/usr/lib/libc.so.6"}}}},
	}
}

func link(peer string) *v1.HostLink {
	return &v1.HostLink{Peer: peer, State: "proven", Tried: ago(4 * time.Minute)}
}

func broken(peer string) *v1.HostLink {
	return &v1.HostLink{Peer: peer, State: "failed", Tried: ago(9 * time.Second), Reason: "the network does not carry a pod's MAC",
		Remedy: "let the switch carry several MACs"}
}

func somePods() []*v1.Pod {
	redis := &v1.Pod{
		Spec: &v1.PodSpec{
			Name: "redis", Hostname: "redis", Addresses: []string{"10.77.128.5/16"}, Gateway: "10.77.0.254", Mac: "02:00:00:00:00:05",
			RestartPolicy: v1.RestartPolicy_RESTART_POLICY_ALWAYS, OnHostLost: v1.OnHostLost_ON_HOST_LOST_RESTART,
			Labels: map[string]string{"tier": "db", "app": "redis"}, AllowPostcopy: true,
			Containers: []*v1.Container{{Name: "main", Image: "demo/redis:1", ImageDigest: "sha256:01"}, {Name: "metrics", Image: "demo/exporter:1"}},
			Volumes: []*v1.Volume{{Name: "data", Kind: &v1.Volume_Local_{}},
				{Name: "tmp", Kind: &v1.Volume_Memory_{Memory: &v1.Volume_Memory{SizeBytes: 64 << 20}}}},
		},
		Phase: v1.PodPhase_POD_PHASE_RUNNING, Host: "h1", Epoch: 3, Created: ago(26 * time.Hour),
		Containers: []*v1.ContainerStatus{{Name: "main", State: "running", Pid: 4711, Restarts: 1, Healthy: new(true),
			Started: ago(90 * time.Minute), MemoryBytes: 12 << 20}},
	}
	web := &v1.Pod{
		Spec: &v1.PodSpec{Name: "web", Addresses: []string{"10.77.128.6/16", "fd77::6/64"},
			Containers: []*v1.Container{{Name: "main", Image: "demo/nginx:1"}}},
		Phase: v1.PodPhase_POD_PHASE_MOVING, Host: "h1", Destination: "h2", Migration: "m-2", Epoch: 1, Created: ago(5 * time.Minute),
		Containers: []*v1.ContainerStatus{{Name: "main", State: "paused", Healthy: new(false), HealthMessage: "status 503"}},
	}
	pg := &v1.Pod{
		Spec:  &v1.PodSpec{Name: "pg", Containers: []*v1.Container{{Name: "main", Image: "demo/postgres:1"}}},
		Phase: v1.PodPhase_POD_PHASE_UNKNOWN, Host: "h3", Epoch: 7, Created: ago(400 * time.Hour), Message: "h3 does not answer",
	}
	return []*v1.Pod{redis, web, pg}
}

func someImages() []*v1.Image {
	return []*v1.Image{
		{Reference: "demo/redis:1", Digest: "sha256:0123456789abcdef0123", SizeBytes: 42 << 20, Hosts: []string{"h1", "h2"}},
		{Reference: "demo/nginx:1", Digest: "sha256:fedcba98765432100123", SizeBytes: 1536},
	}
}

func someProgress() []*v1.MigrationProgress {
	return []*v1.MigrationProgress{
		{Migration: "m-1", Step: "check", StepIndex: 1, StepCount: 10},
		{Migration: "m-1", Step: "sync", StepIndex: 3, StepCount: 10, BytesTotal: 100 << 20},
		{Migration: "m-1", Step: "sync", StepIndex: 3, StepCount: 10, Bytes: 10 << 20, BytesTotal: 100 << 20},
		{Migration: "m-1", Step: "sync", StepIndex: 3, StepCount: 10, Bytes: 60 << 20, BytesTotal: 100 << 20,
			BytesPerSecond: 90 << 20, Remaining: ms(450)},
		{Migration: "m-1", Step: "dump", StepIndex: 6, StepCount: 10, Bytes: 3 << 20, Message: "4 tasks"},
	}
}

// someReport is of a migration that went as the pod's name says.
func someReport(pod, to string) *v1.MigrationReport {
	r := &v1.MigrationReport{
		Id: "m-1", Pod: pod, From: "h1", To: to, Mode: v1.MigrationMode_MIGRATION_MODE_STOP,
		ModeReason: "12 MiB fit the budget of 500 ms", Outcome: v1.MigrationOutcome_MIGRATION_OUTCOME_COMMITTED,
		Estimate: &v1.Estimate{MemoryBytes: 12 << 20, FileBytes: 1 << 20, BandwidthBytesPerSecond: 400 << 20, Freeze: ms(350), Total: ms(1200)},
		Steps: []*v1.StepReport{
			{Name: "check", Started: ago(time.Minute), Took: ms(21)},
			{Name: "dump", Started: ago(time.Minute), Took: ms(195), Bytes: 12 << 20, Frozen: true,
				Parts: []*v1.StepPart{{Name: "criu", Took: ms(160)}, {Name: "last files", Took: ms(35)}}},
			{Name: "restore", Started: ago(time.Minute), Took: ms(149), Frozen: true},
		},
		Bytes: 13 << 20, Freeze: ms(412), Started: ago(time.Minute), Finished: ago(58 * time.Second), FramesHeld: 12,
	}
	fail := func(o v1.MigrationOutcome, why string) {
		r.Outcome, r.Error = o, why
		r.Steps[2].Error, r.Steps[2].Undone = why, true
	}
	switch pod {
	case "aborted":
		fail(v1.MigrationOutcome_MIGRATION_OUTCOME_ABORTED, "restore on h2: no space left")
	case "handed":
		fail(v1.MigrationOutcome_MIGRATION_OUTCOME_HANDED_BACK, "CRIU failed after the commit")
	case "lost":
		fail(v1.MigrationOutcome_MIGRATION_OUTCOME_LOST, "h1 went away before all pages had arrived")
	case "refused":
		r.Outcome, r.Steps, r.Freeze, r.Bytes, r.FramesHeld = v1.MigrationOutcome_MIGRATION_OUTCOME_REFUSED, nil, nil, 0, 0
		r.Refusals = []*v1.Refusal{{Reason: "it uses io_uring", Remedy: "deny io_uring_setup in its seccomp profile"},
			{Reason: "h2 has no room", Remedy: "free 2 GiB of memory there"}}
	}
	return r
}

func running() *v1.MigrationReport {
	r := someReport("web", "h2")
	r.Id, r.Outcome, r.Finished, r.Freeze, r.Bytes, r.Steps = "m-2", 0, nil, nil, 0, r.Steps[:1]
	return r
}
