package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/migrate/stack"
	"drydock/orchestrator/plan"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/refusal"
	"drydock/orchestrator/store"
)

// survey is a pool as it is at one moment: what its plan is made from.
type survey struct {
	*Controller
	r    *reign
	pool *pool.Pool
	// by is whose cordons do not count: a rollout, or nobody.
	by string
	// patches is what each host is given; a host that is left out is away, with the reason.
	patches map[string]*drydockv1.Patch
	away    map[string]*drydockv1.Refusal
	// failed are those among the hosts away that count against the error budget.
	failed map[string]bool

	hosts   map[string]host
	members []string
	pods    []surveyed
	// features are processors' by the name that their stack has.
	features map[string][]string
}

// surveyed is a pod on one of the pool's hosts.
type surveyed struct {
	spec  *drydockv1.PodSpec
	host  string
	used  int64
	files int64
	fixed *drydockv1.Refusal
}

func (c *Controller) newSurvey(r *reign, p *pool.Pool, by string) *survey {
	return &survey{
		Controller: c, r: r, pool: p, by: by, patches: map[string]*drydockv1.Patch{}, away: map[string]*drydockv1.Refusal{},
		failed: map[string]bool{}, features: map[string][]string{},
	}
}

// look reads hosts and pods. Hosts that cannot take part are away.
func (s *survey) look(ctx context.Context) error {
	var err error
	if s.hosts, err = s.Controller.hosts(ctx); err != nil {
		return err
	}
	s.members = membersOf(s.pool, s.hosts)
	if len(s.members) == 0 {
		return refuse("plan pool "+s.pool.Name, because("none of its hosts has joined", "let them join: `drydock host join NAME`"))
	}
	for _, name := range s.members {
		why := s.hosts[name].whyNotFor(s.by)
		if why == nil || s.away[name] != nil {
			continue
		}
		own, err := s.ownCordon(ctx, s.hosts[name])
		if err != nil {
			return err
		}
		if !own {
			s.away[name] = why
		}
	}
	return s.lookAtPods(ctx)
}

// ownCordon says whether nothing but a cordon of an ended rollout of this pool is in the way.
func (s *survey) ownCordon(ctx context.Context, h host) (bool, error) {
	if h.state != hostCordoned {
		return false, nil
	}
	return s.rollouts.HasLeft(ctx, s.pool.Name, h.record.GetCordon())
}

func (s *survey) lookAtPods(ctx context.Context) error {
	owners, err := s.ownerRecords(ctx)
	if err != nil {
		return err
	}
	items, err := store.List[drydockv1.PodRecord](ctx, s.store, keyPods)
	if err != nil {
		return err
	}
	for _, item := range items {
		own := owners[item.Value.GetSpec().GetName()]
		if !own.Owned() || own.State == owner.Stopping || !slices.Contains(s.members, own.Owner.Host) {
			continue
		}
		pod := surveyed{spec: item.Value.GetSpec(), host: own.Owner.Host}
		for _, container := range reportedPod(s.hosts[pod.host], pod.spec.GetName()).GetContainers() {
			pod.used += container.GetMemoryBytes()
		}
		s.pods = append(s.pods, pod)
	}
	return nil
}

// resolveAtOnce is how many hosts are asked at a time.
const resolveAtOnce = 8

// resolve asks every host that takes part for its patch.
func (s *survey) resolve(ctx context.Context, refresh bool) error {
	var mu sync.Mutex
	return s.eachMember(ctx, func(name string) {
		patch, why := s.resolveHost(ctx, name, refresh)
		mu.Lock()
		defer mu.Unlock()
		if why != nil {
			s.away[name], s.failed[name] = why, true
			return
		}
		s.patches[name] = patch
	})
}

func (s *survey) eachMember(ctx context.Context, do func(name string)) error {
	slots := make(chan struct{}, resolveAtOnce)
	var group sync.WaitGroup
	for _, name := range s.members {
		if s.away[name] != nil {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			do(name)
		})
	}
	group.Wait()
	return ctx.Err()
}

func (s *survey) resolveHost(ctx context.Context, name string, refresh bool) (*drydockv1.Patch, *drydockv1.Refusal) {
	what := fmt.Sprintf("host %s does not say what it lacks", name)
	agent, err := s.agents.patcher(s.hosts[name].record)
	if err != nil {
		return nil, because(what+": "+err.Error(), "bring its agent back")
	}
	wanted := &drydockv1.PatchPolicy{What: s.pool.Patch.What, Packages: s.pool.Patch.Packages, Hold: s.pool.Patch.Hold}
	answer, err := agent.Resolve(ctx, connect.NewRequest(&drydockv1.ResolveRequest{Policy: wanted, Refresh: refresh}))
	if err != nil {
		why := refusal.Why(fmt.Errorf("host %s: %w", name, err))[0]
		return nil, because(what+": "+why.GetReason(), why.GetRemedy())
	}
	if refusals := answer.Msg.GetRefusals(); len(refusals) > 0 {
		return nil, because("host "+name+": "+refusals[0].GetReason(), refusals[0].GetRemedy())
	}
	return answer.Msg.GetPatch(), nil
}

// lacks says whether a host is to be given anything.
func (s *survey) lacks(name string) bool {
	patch := s.patches[name]
	return s.away[name] == nil && (len(patch.GetPackages()) > 0 || patch.GetRebootRequired() && s.pool.Reboot != pool.RebootNever)
}

// Input is what the plan is made from.
func (s *survey) Input(ctx context.Context) (plan.Input, error) {
	last, err := s.lastMigrations(ctx)
	if err != nil {
		return plan.Input{}, err
	}
	l, err := s.links(ctx)
	if err != nil {
		return plan.Input{}, err
	}
	in := plan.Input{Policy: plan.PolicyOf(s.pool), Rates: measured(usualRates(), last)}
	networks := networksOf(s.members, l)
	in.Pair = func(from, to plan.Stack) *plan.Refusal { return s.pair(from, to, l) }
	for _, name := range s.members {
		in.Hosts = append(in.Hosts, s.planHost(name, networks[name]))
	}
	tracked, written := s.allTrackWrites(), writtenBy(last)
	for _, pod := range s.pods {
		planned := s.planPod(pod)
		planned.DirtyPerSecond = written[planned.Name]
		if tracked && s.hosts[pod.host].report.GetInfo().GetMemoryAvailableBytes() >= precopyRoom*pod.used {
			planned.Modes = append(planned.Modes, plan.Precopy)
		}
		in.Pods = append(in.Pods, planned)
	}
	return in, nil
}

// precopyRoom is how often a pod's memory must be free on its host for the copies that pre-copy makes of it.
const precopyRoom = 2

// allTrackWrites says whether every host that takes part can move pods with pre-copy: where one cannot, a pod that comes to it is
// moved off it without.
func (s *survey) allTrackWrites() bool {
	return !slices.ContainsFunc(s.members, func(name string) bool {
		return s.away[name] == nil && !s.hosts[name].report.GetInfo().GetCriuFeatures()[stack.TracksWrites]
	})
}

// plenty stands for what a host has not said.
const plenty = 1 << 50

func (s *survey) planHost(name, network string) plan.Host {
	h, patch := s.hosts[name], s.patches[name]
	info := h.report.GetInfo()
	planned := plan.Host{
		Name: name, Domain: s.domain(name), CPU: int64(info.GetCpus()) * 1000, Memory: info.GetMemoryAvailableBytes(),
		RebootRequired: patch.GetRebootRequired(), RestartsPods: len(patch.GetRestartsPods()) > 0,
		Before: s.stackOf(info, network),
	}
	for _, pod := range s.pods {
		if pod.host == name {
			planned.Memory += pod.used
		}
	}
	if info.GetMemoryAvailableBytes() == 0 {
		planned.Memory = plenty
	}
	if planned.CPU == 0 {
		planned.CPU = plenty
	}
	for _, p := range patch.GetPackages() {
		planned.Patch = append(planned.Patch, plan.Package{Name: p.GetName(), From: p.GetFrom(), To: p.GetTo()})
	}
	planned.After = planned.Before
	planned.After.Kernel = cmp.Or(patch.GetKernel(), planned.Before.Kernel)
	planned.After.CRIU = cmp.Or(criuIn(patch), planned.Before.CRIU)
	if why := s.away[name]; why != nil {
		planned.Away = &plan.Refusal{Reason: why.GetReason(), Remedy: why.GetRemedy()}
	}
	return planned
}

func (s *survey) stackOf(info *drydockv1.HostInfo, network string) plan.Stack {
	features := slices.Sorted(slices.Values(info.GetCpuFeatures()))
	arch := info.GetArch() + " " + strings.Join(features, " ")
	s.features[arch] = features
	return plan.Stack{Kernel: info.GetKernel(), CRIU: info.GetCriuVersion(), Runtime: info.GetRuncVersion(), Arch: arch, Network: network}
}

// criuIn is the version of CRIU that a patch brings, as the program says it, or nothing.
func criuIn(patch *drydockv1.Patch) string {
	for _, p := range patch.GetPackages() {
		if p.GetName() == "criu" {
			upstream, _, _ := strings.Cut(p.GetTo(), "-")
			return upstream
		}
	}
	return ""
}

// pair is migrate/stack's rule, and that the network between the hosts carries pods.
func (s *survey) pair(from, to plan.Stack, l links) *plan.Refusal {
	if from.Network != to.Network {
		return s.apartBy(from.Network, to.Network, l)
	}
	here := stack.Stack{Kernel: from.Kernel, CRIU: from.CRIU, Arch: archOf(from), Features: s.features[from.Arch]}
	there := stack.Stack{Kernel: to.Kernel, CRIU: to.CRIU, Arch: archOf(to), Features: s.features[to.Arch]}
	if found := stack.Obstacles(here, there); len(found) > 0 {
		return &plan.Refusal{Reason: found[0].Reason, Remedy: found[0].Remedy}
	}
	return nil
}

func archOf(s plan.Stack) string {
	arch, _, _ := strings.Cut(s.Arch, " ")
	return arch
}

// apartBy is what keeps two groups of hosts apart; a group goes by the name of its first host.
func (s *survey) apartBy(a, b string, l links) *plan.Refusal {
	if why := l.between(s.hosts[a], s.hosts[b]).why; why != nil {
		return &plan.Refusal{Reason: why.GetReason(), Remedy: why.GetRemedy()}
	}
	return &plan.Refusal{
		Reason: fmt.Sprintf("the network is not proven between all hosts around %s and %s", a, b),
		Remedy: "see `drydock host inspect " + a + "`",
	}
}

// networksOf groups hosts so that the network between every two of a group is proven; a group goes by the name of its first.
func networksOf(members []string, l links) map[string]string {
	groups := map[string][]string{}
	of := make(map[string]string, len(members))
	for _, name := range members {
		for _, first := range sortedKeys(groups) {
			if !slices.ContainsFunc(groups[first], func(other string) bool { return l.between(l.hosts[name], l.hosts[other]).state != linkProven }) {
				of[name] = first
				break
			}
		}
		if of[name] == "" {
			of[name] = name
		}
		groups[of[name]] = append(groups[of[name]], name)
	}
	return of
}

func (s *survey) planPod(pod surveyed) plan.Pod {
	n := needOf(pod.spec)
	planned := plan.Pod{
		Name: pod.spec.GetName(), Host: pod.host, Memory: max(n.memory, pod.used), Used: pod.used, FileBytes: pod.files,
		Home: pod.spec.GetAffinity(), Modes: []plan.Mode{plan.Stop},
		Apart: plan.ApartOf(s.pool, pod.spec.GetName(), pod.spec.GetLabels()),
	}
	for _, container := range pod.spec.GetContainers() {
		planned.CPU += cmp.Or(container.GetResources().GetCpuRequestMillis(), container.GetResources().GetCpuLimitMillis())
	}
	if pod.spec.GetAllowPostcopy() {
		planned.Modes = append(planned.Modes, plan.Postcopy)
	}
	if pod.fixed != nil {
		planned.Fixed = &plan.Refusal{Reason: pod.fixed.GetReason(), Remedy: pod.fixed.GetRemedy()}
	}
	return planned
}
