package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

var kernels = []string{"6.1.1", "6.1.2", "6.12.1", "6.12.2", "7.2.1"}

// upwards allows a move to the same or a newer kernel only.
func upwards(from, to Stack) *Refusal {
	if to.Kernel >= from.Kernel {
		return nil
	}
	return &Refusal{"kernel " + to.Kernel + " is older than " + from.Kernel, "patch it first"}
}

// someWay allows what a seed says; a host can always hand over to its like.
func someWay(seed uint64) func(from, to Stack) *Refusal {
	return func(from, to Stack) *Refusal {
		r := rand.New(rand.NewPCG(seed, uint64(len(from.Kernel)*1000+len(to.Kernel))+uint64(from.Kernel[len(from.Kernel)-1])*31+uint64(to.Kernel[2])*7+uint64(to.Kernel[len(to.Kernel)-1])))
		if from == to || r.IntN(4) > 0 {
			return nil
		}
		return &Refusal{"they cannot", "patch one"}
	}
}

func kernelOf(r *rand.Rand) (before, after string) {
	switch r.IntN(4) {
	case 0:
		return kernels[0], kernels[1]
	case 1:
		return kernels[2], kernels[3]
	case 2:
		return kernels[0], kernels[3]
	}
	return kernels[2], kernels[4]
}

func policyOf(r *rand.Rand) Policy {
	return Policy{
		Pool: "random", Hosts: 1 + r.IntN(3), Domains: r.IntN(3), Canaries: r.IntN(2), WithoutDrain: r.IntN(2) == 0,
		Reboot: []Reboot{RebootNever, RebootWhenRequired, RebootAlways}[r.IntN(3)], Budget: time.Hour, Modes: []Mode{Stop},
		Return: []Return{ReturnNever, ReturnAffinity, ReturnAlways}[r.IntN(3)],
	}
}

// random is a pool that begins in order: nothing is too full, and nothing is together that must be apart.
func random(seed uint64, hosts, pods int) Input {
	r := rand.New(rand.NewPCG(seed, 7))
	in := Input{Policy: policyOf(r), Pair: upwards, Rates: Rates{Bandwidth: 1 << 30, Parallel: 2}}
	if r.IntN(2) == 0 {
		in.Pair = someWay(seed)
	}
	free := map[string]*Host{}
	for i := range hosts {
		before, after := kernelOf(r)
		h := Host{
			Name: fmt.Sprintf("h%d", i), Domain: fmt.Sprintf("d%d", r.IntN(3)), CPU: 8, Memory: 8 + int64(r.IntN(8)),
			Before: Stack{Kernel: before}, After: Stack{Kernel: after}, RebootRequired: r.IntN(3) > 0, RestartsPods: r.IntN(2) == 0,
			Patch: []Package{{"linux", "1", "2"}},
		}
		if r.IntN(6) == 0 {
			h.Patch, h.RebootRequired = nil, false
		}
		if r.IntN(12) == 0 {
			h.Away = &Refusal{"it is away", "bring it back"}
		}
		in.Hosts = append(in.Hosts, h)
		room := h
		free[h.Name] = &room
	}
	together := map[string]bool{}
	for i := range pods {
		h := in.Hosts[r.IntN(hosts)]
		p := Pod{Name: fmt.Sprintf("p%d", i), Host: h.Name, CPU: int64(r.IntN(4)), Memory: 1 + int64(r.IntN(6)), Modes: []Mode{Stop}}
		if r.IntN(3) == 0 {
			p.Home = in.Hosts[r.IntN(hosts)].Name
		}
		if r.IntN(3) == 0 {
			a := Apart{Group: fmt.Sprintf("g%d", r.IntN(2)), Domain: r.IntN(3) == 0}
			key := fmt.Sprint(a, h.Name)
			if a.Domain {
				key = fmt.Sprint(a, h.Domain)
			}
			if !together[key] {
				together[key] = true
				p.Apart = []Apart{a}
			}
		}
		if room := free[h.Name]; room.CPU >= p.CPU && room.Memory >= p.Memory {
			room.CPU -= p.CPU
			room.Memory -= p.Memory
			in.Pods = append(in.Pods, p)
		}
	}
	return in
}

func must(t *testing.T, in Input) *Plan {
	t.Helper()
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPlanIsFoundExactlyWhereThereIsOne(t *testing.T) {
	var possible, impossible, exhaustive int
	for seed := range uint64(500) {
		in := random(seed, 2+int(seed%2), 5)
		p := must(t, in)
		if p.Exhaustive {
			exhaustive++
		}
		if len(p.Blockers) == 0 {
			possible++
			if err := errors.Join(verify(in, p), Verify(in, p)); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			continue
		}
		impossible++
		if !p.Proven || !p.Minimal || p.Rounds != nil {
			t.Fatalf("seed %d: proven %v, minimal %v", seed, p.Proven, p.Minimal)
		}
		without := map[string]bool{}
		for _, b := range p.Blockers {
			without[b.Pod] = true
		}
		if feasible(in, nil) || !feasible(in, without) {
			t.Fatalf("seed %d: the blockers %v are not what makes it impossible", seed, p.Blockers)
		}
		for _, b := range p.Blockers {
			delete(without, b.Pod)
			if feasible(in, without) {
				t.Fatalf("seed %d: %s is named for nothing", seed, b.Pod)
			}
			without[b.Pod] = true
		}
	}
	t.Logf("%d possible, %d of them found by looking at everything, %d impossible", possible, exhaustive, impossible)
	if possible < 100 || impossible < 100 || exhaustive == 0 {
		t.Errorf("the pools are too much alike: %d possible, %d exhaustive, %d impossible", possible, exhaustive, impossible)
	}
}

func TestAPlanOfALargerPoolCanBeReplayed(t *testing.T) {
	var planned int
	for seed := range uint64(300) {
		in := random(seed, 8+int(seed%8), 30)
		p := must(t, in)
		if len(p.Blockers) > 0 {
			continue
		}
		planned++
		if err := errors.Join(verify(in, p), Verify(in, p)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	t.Logf("%d planned", planned)
	if planned < 100 {
		t.Errorf("only %d plans", planned)
	}
}

func TestPodsThatCannotMoveAreStartedAgainOnPatchedHosts(t *testing.T) {
	var restarts int
	for seed := range uint64(80) {
		in := random(seed, 5, 12)
		in.Policy.StopWhatCannotMove = true
		for i := range in.Pods {
			if (seed+uint64(i))%4 == 0 {
				in.Pods[i].Fixed = &Refusal{"io_uring", "turn it off"}
			}
		}
		p := must(t, in)
		if len(p.Blockers) > 0 {
			continue
		}
		restarts += p.Restarts
		if err := errors.Join(verify(in, p), Verify(in, p)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if restarts < 20 {
		t.Errorf("only %d restarts", restarts)
	}
}

func TestTheSameInputGivesTheSamePlan(t *testing.T) {
	for seed := range uint64(10) {
		in := random(seed, 8, 24)
		if a, b := must(t, in), must(t, in); !reflect.DeepEqual(a, b) {
			t.Fatalf("seed %d: two plans", seed)
		}
	}
}
