package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"drydock/orchestrator/plan"
)

// size is what an instance is made of.
type size struct {
	hosts, racks, pods int
	// full is the share of the hosts' memory that pods have.
	full float64
	// atOnce hosts of one rack are patched at a time.
	atOnce int
}

const (
	gib = int64(1) << 30
	// groupSize is how many pods are kept apart from each other.
	groupSize = 5
)

// series are the kernels that run, before and after the patch.
var series = [2][2]string{{"6.1.140-1", "6.1.158-1"}, {"6.12.43-1", "6.12.57-1"}}

// instance is the same for the same seed: racks of hosts of which every other runs the newer kernel, and pods of many sizes.
// One in ten pods belongs to a group that is kept apart by host, one in fifty to one that is kept apart by rack.
func instance(s size, seed uint64) plan.Input {
	r := rand.New(rand.NewPCG(seed, seed))
	in := plan.Input{
		Policy: plan.Policy{
			Pool: "bench", Hosts: s.atOnce, Domains: 1, Canaries: 1, Reboot: plan.RebootWhenRequired, Budget: 5 * time.Second,
			Modes: []plan.Mode{plan.Precopy, plan.Stop}, Return: plan.ReturnNever, Soak: time.Minute, SoakCanaries: 10 * time.Minute,
		},
		Pair: newer,
		Rates: plan.Rates{Bandwidth: gib, Parallel: 4, Freeze: 300 * time.Millisecond, Move: 2 * time.Second,
			Package: 5 * time.Second, Boot: 2 * time.Minute, Verify: 10 * time.Second},
	}
	var room int64
	for i := range s.hosts {
		kernel := series[i%2]
		memory := []int64{64, 96, 128}[r.IntN(3)] * gib
		room += memory
		in.Hosts = append(in.Hosts, plan.Host{
			Name: fmt.Sprintf("h%05d", i), Domain: fmt.Sprintf("rack%02d", i*s.racks/s.hosts), CPU: memory / gib * 500, Memory: memory,
			Before: plan.Stack{Kernel: kernel[0], CRIU: "4.2.1"}, After: plan.Stack{Kernel: kernel[1], CRIU: "4.2.1"},
			Patch: []plan.Package{{Name: "linux-image-amd64", From: kernel[0], To: kernel[1]}, {Name: "openssl", From: "3.5.1-1", To: "3.5.1-1+deb13u1"}}, RebootRequired: true,
		})
	}
	f := filler{in: &in, random: r, free: make([]plan.Host, len(in.Hosts)), groups: map[string]bool{}}
	copy(f.free, in.Hosts)
	mean := float64(room) * s.full / float64(s.pods)
	for i := range s.pods {
		f.add(i, mean)
	}
	return in
}

// newer lets a kernel hand over to itself and to newer ones.
func newer(from, to plan.Stack) *plan.Refusal {
	if rank(to.Kernel) >= rank(from.Kernel) {
		return nil
	}
	return &plan.Refusal{Reason: "kernel " + to.Kernel + " is older than " + from.Kernel, Remedy: "patch it first"}
}

func rank(kernel string) int {
	for i, s := range series {
		for j, k := range s {
			if k == kernel {
				return 2*i + j
			}
		}
	}
	return -1
}

// filler spreads pods over hosts as they come, as full as the hosts get by themselves.
type filler struct {
	in     *plan.Input
	random *rand.Rand
	free   []plan.Host
	groups map[string]bool
}

func (f *filler) add(i int, mean float64) {
	memory := int64(mean * (0.25 + 1.5*f.random.Float64()))
	p := plan.Pod{
		Name: fmt.Sprintf("p%06d", i), Memory: memory, CPU: int64(float64(memory) / float64(gib) * (300 + 300*f.random.Float64())),
		DirtyPerSecond: memory / 50, Modes: []plan.Mode{plan.Precopy, plan.Stop},
	}
	switch {
	case i%10 == 0:
		p.Apart = []plan.Apart{{Group: fmt.Sprintf("host-%d", i/(10*groupSize))}}
	case i%50 == 1:
		p.Apart = []plan.Apart{{Group: fmt.Sprintf("rack-%d", i/(50*groupSize)), Domain: true}}
	}
	// The emptiest of a few, so that some hosts are fuller than others; at last of all.
	for try := 0; ; try++ {
		best := -1
		for range 3 {
			h := f.random.IntN(len(f.free))
			if x := f.free[h]; x.Memory >= p.Memory && x.CPU >= p.CPU && !f.groups[key(p, x)] && (best < 0 || x.Memory > f.free[best].Memory) {
				best = h
			}
		}
		if best >= 0 {
			f.free[best].Memory -= p.Memory
			f.free[best].CPU -= p.CPU
			f.groups[key(p, f.free[best])] = len(p.Apart) > 0
			p.Host = f.in.Hosts[best].Name
			f.in.Pods = append(f.in.Pods, p)
			return
		}
		if try > 1000 {
			return // no host takes it: the pool is as full as it gets
		}
	}
}

func key(p plan.Pod, h plan.Host) string {
	if len(p.Apart) == 0 {
		return ""
	}
	if p.Apart[0].Domain {
		return p.Apart[0].Group + " " + h.Domain
	}
	return p.Apart[0].Group + " " + h.Name
}
