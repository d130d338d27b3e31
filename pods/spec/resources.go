package spec

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	drydockv1 "drydock/api/drydock/v1"
)

const (
	cpuPeriod = 100_000 // microseconds
	// maxTasks stops a fork bomb; no server that a pod is meant for comes near it.
	maxTasks = 16384
)

// resources are written for cgroup v1; runc translates them for v2, except what keeps memory from being swapped, since
// a pod's memory is never to be on a disk. Requests for memory only guide placement.
// Devices: runc allows null, zero, full, random, urandom, tty and the pod's own terminals, and creates these.
func resources(r *drydockv1.Resources, cgroup2 bool) *specs.LinuxResources {
	limit := int64(maxTasks)
	out := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
		Memory:  &specs.LinuxMemory{},
		CPU:     &specs.LinuxCPU{},
		Pids:    &specs.LinuxPids{Limit: &limit},
	}
	if bytes := r.GetMemoryLimitBytes(); bytes > 0 {
		out.Memory.Limit = &bytes
	}
	if cgroup2 {
		out.Unified = map[string]string{"memory.swap.max": "0"}
	} else {
		out.Memory.Swappiness = new(uint64)
	}
	if millis := r.GetCpuLimitMillis(); millis > 0 {
		period, quota := uint64(cpuPeriod), max(millis*cpuPeriod/1000, 1000)
		out.CPU.Period, out.CPU.Quota = &period, &quota
	}
	if millis := r.GetCpuRequestMillis(); millis > 0 {
		shares := uint64(max(millis*1024/1000, 2))
		out.CPU.Shares = &shares
	}
	return out
}
