package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drydock/orchestrator/pool"
)

// three hosts alike that lack a kernel, each with room for 10 of memory and of CPU.
func three(pods ...Pod) Input {
	in := Input{
		Policy: Policy{Pool: "three", Hosts: 1, Reboot: RebootWhenRequired, Budget: time.Minute, Modes: []Mode{Stop}, Return: ReturnNever},
		Pair:   upwards, Pods: pods,
	}
	for i := range 3 {
		in.Hosts = append(in.Hosts, Host{
			Name: fmt.Sprintf("h%d", i+1), CPU: 10, Memory: 10, RebootRequired: true,
			Before: Stack{Kernel: "6.12.1"}, After: Stack{Kernel: "6.12.2"}, Patch: []Package{{"linux-image-amd64", "6.12.1", "6.12.2"}},
		})
	}
	return in
}

func on(host, name string, memory int64) Pod {
	return Pod{Name: name, Host: host, CPU: 1, Memory: memory, Modes: []Mode{Stop}}
}

func checked(t *testing.T, in Input) *Plan {
	t.Helper()
	p := must(t, in)
	if err := Verify(in, p); err != nil {
		t.Fatal(err)
	}
	if err := verify(in, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheEmptiestHostIsFirstAndPodsGoToPatchedOnes(t *testing.T) {
	p := checked(t, three(on("h1", "a", 3), on("h1", "b", 3), on("h2", "c", 3)))
	var got []string
	for _, r := range p.Rounds {
		got = append(got, r.Hosts[0].Host)
		for _, stage := range r.Drain {
			for _, m := range stage {
				got = append(got, m.Pod+" "+m.From+"-"+m.To)
			}
		}
	}
	want := []string{"h3", "h2", "c h2-h3", "h1", "a h1-h2", "b h1-h2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if p.Moves != 3 || p.Rounds[0].Hosts[0].Patch[0].Pin() != "linux-image-amd64=6.12.2" || !p.Rounds[0].Hosts[0].Reboot {
		t.Errorf("%d moves, %+v", p.Moves, p.Rounds[0].Hosts[0])
	}
	if f := p.Forecast(); len(f) != 3 || f["c"].Host != "h3" || f["c"].Moves != 1 {
		t.Errorf("forecast %+v", f)
	}
}

func TestAHostWaitsUntilOthersCanTakeItsPodsOver(t *testing.T) {
	in := three(on("h1", "a", 3)) // h1 would be the first of its kind
	in.Hosts[0].Before, in.Hosts[0].After = Stack{Kernel: "6.12.2"}, Stack{Kernel: "6.12.3"}
	p := checked(t, in)
	if len(p.Rounds) != 3 || p.Rounds[1].Hosts[0].Host != "h1" || p.Rounds[1].Hosts[0].Why != "waited until pod a found a place" || p.Moves != 1 {
		t.Errorf("got %+v", p)
	}
}

func TestOtherPodsMakeRoomWhereThatIsTheOnlyWay(t *testing.T) {
	p := checked(t, three(on("h1", "large", 7), on("h2", "b", 4), on("h3", "c", 4), on("h2", "e", 1)))
	if len(p.Blockers) > 0 || p.Exhaustive {
		t.Errorf("got %+v", p)
	}
}

func TestThePodsThatMakeItImpossibleAreNamed(t *testing.T) {
	// Each of h1 and h2 has a large pod; only one of them finds room, but the other then has none.
	p := must(t, three(on("h1", "a", 8), on("h2", "b", 8), on("h3", "c", 8), on("h3", "small", 1)))
	if len(p.Blockers) != 1 || !p.Proven || !p.Minimal || p.Rounds != nil {
		t.Fatalf("got %+v", p)
	}
	if b := p.Blockers[0]; b.Pod == "small" || !strings.Contains(b.Reason, "no order of the hosts") || b.Remedy == "" {
		t.Errorf("got %+v", b)
	}
}

func TestABlockerSaysWhyAndWhatToDo(t *testing.T) {
	large := three(on("h1", "a", 8))
	large.Hosts[1].Memory, large.Hosts[2].Memory = 5, 5
	unable := three(on("h1", "a", 3))
	unable.Pair = func(from, to Stack) *Refusal { return &Refusal{"CRIU is too old", "install CRIU 4.2"} }
	fixed := three(on("h1", "a", 3))
	fixed.Pods[0].Fixed = &Refusal{"it uses io_uring", "turn io_uring off"}
	slow := three(on("h1", "a", 3<<30))
	slow.Rates.Bandwidth, slow.Policy.Budget = 1<<20, time.Second
	alone := three(on("h1", "a", 3))
	alone.Hosts = alone.Hosts[:1]
	for name, test := range map[string]struct {
		in             Input
		reason, remedy string
	}{
		"no host is large enough":  {large, "no other host is that large", "larger host"},
		"nothing takes it over":    {unable, "CRIU is too old", "install CRIU 4.2"},
		"it cannot be moved":       {fixed, "io_uring", "turn io_uring off"},
		"it would be silent long":  {slow, "downtime budget of 1s", "pods.downtime-budget"},
		"there is no other host":   {alone, "no other host", "add a host"},
		"with the ones around it ": {three(on("h1", "a", 8), on("h2", "b", 8), on("h3", "c", 8)), "no order of the hosts", "add a host"},
	} {
		t.Run(name, func(t *testing.T) {
			p := must(t, test.in)
			if len(p.Blockers) != 1 || !strings.Contains(p.Blockers[0].Reason, test.reason) || !strings.Contains(p.Blockers[0].Remedy, test.remedy) {
				t.Errorf("got %+v", p.Blockers)
			}
		})
	}
}

func TestHostsThatNeedNoRestartArePatchedUnderTheirPods(t *testing.T) {
	in := three(on("h1", "a", 9), on("h2", "b", 9), on("h3", "c", 9))
	in.Policy.WithoutDrain = true
	for i := range in.Hosts {
		in.Hosts[i].RebootRequired = false
	}
	p := checked(t, in)
	if p.Moves != 0 || len(p.Rounds) != 3 || p.Rounds[0].Hosts[0].Drained || p.Rounds[0].Hosts[0].Reboot {
		t.Errorf("got %+v", p)
	}
	in.Hosts[1].RestartsPods = true
	if p := must(t, in); len(p.Blockers) != 1 || p.Blockers[0].Pod != "b" {
		t.Errorf("a host whose pods have to start again: %+v", p.Blockers)
	}
}

func TestPodsReturnAsThePolicySays(t *testing.T) {
	for policy, moves := range map[Return]int{ReturnNever: 1, ReturnAffinity: 2, ReturnAlways: 2} {
		in := three(on("h1", "a", 3))
		in.Policy.Return = policy
		in.Pods[0].Home = "h1"
		p := checked(t, in)
		if p.Moves != moves {
			t.Errorf("%s: %d moves", policy, p.Moves)
		}
		if end := p.Forecast()["a"].Host; (end == "h1") != (moves == 2) {
			t.Errorf("%s: it ends on %s", policy, end)
		}
	}
	in := three(on("h1", "a", 3))
	in.Policy.Return = ReturnAffinity
	if p := checked(t, in); p.Moves != 1 {
		t.Errorf("a pod without affinity moved %d times", p.Moves)
	}
}

func TestAPodIsTakenHomeWhereItHasToMoveAnyway(t *testing.T) {
	in := three(on("h1", "a", 3), on("h2", "b", 1))
	in.Policy.Return = ReturnAffinity
	in.Pods[0].Home = "h2"
	if p := checked(t, in); p.Forecast()["a"].Host != "h2" {
		t.Errorf("it ends on %s", p.Forecast()["a"].Host)
	}
}

func TestAPodThatCannotMoveIsStoppedWhereThePolicyAllows(t *testing.T) {
	in := three(on("h1", "a", 3), on("h1", "b", 3), on("h2", "c", 8), on("h3", "d", 7))
	in.Pods[0].Fixed = &Refusal{"it uses io_uring", "turn io_uring off"}
	in.Pods = in.Pods[:2]
	in.Policy.StopWhatCannotMove, in.Policy.Grace = true, 30*time.Second
	in.Rates = Rates{Boot: time.Minute}
	p := checked(t, in)
	if p.Restarts != 1 || p.Moves != 1 {
		t.Fatalf("%d restarts, %d moves", p.Restarts, p.Moves)
	}
	if f := p.Forecast()["a"]; f.Host == "h1" || f.Blackout != 30*time.Second {
		t.Errorf("with a patched host: %+v", f)
	}
	in.Policy.Return = ReturnAlways
	if f := checked(t, in).Forecast()["a"]; f.Host != "h1" || f.Blackout != 90*time.Second {
		t.Errorf("where it must return: %+v", f)
	}
}

func TestCanariesAreTheFirstWaveAndAreWatchedLonger(t *testing.T) {
	in := three()
	in.Hosts = append(in.Hosts, in.Hosts[0], in.Hosts[1])
	in.Hosts[3].Name, in.Hosts[4].Name = "h4", "h5"
	in.Hosts[4].Before.Kernel = "6.1.1"
	in.Policy.Hosts, in.Policy.Canaries, in.Policy.Soak, in.Policy.SoakCanaries = 3, 1, time.Minute, time.Hour
	p := checked(t, in)
	if len(p.Rounds) != 2 || len(p.Rounds[0].Hosts) != 2 || len(p.Rounds[1].Hosts) != 3 {
		t.Fatalf("got %+v", p.Rounds)
	}
	if p.Rounds[0].Soak != time.Hour || p.Rounds[1].Soak != time.Minute || !strings.Contains(p.Rounds[0].Hosts[0].Why, "first of its kind") {
		t.Errorf("got %+v", p.Rounds)
	}
}

func TestAtMostSoManyFailureDomainsAreTouchedAtOnce(t *testing.T) {
	in := three()
	in.Policy.Hosts, in.Policy.Domains = 3, 1
	in.Hosts[0].Domain, in.Hosts[1].Domain, in.Hosts[2].Domain = "r1", "r2", "r1"
	p := checked(t, in)
	if len(p.Rounds) != 2 || !strings.Contains(p.Rounds[1].Hosts[0].Why, "fewest pods") {
		t.Errorf("got %+v", p.Rounds)
	}
	in.Policy.Hosts = 1
	if p := checked(t, in); len(p.Rounds) != 3 || !strings.Contains(p.Rounds[1].Hosts[0].Why, "r1 has been begun") {
		t.Errorf("one at a time: %+v", p.Rounds)
	}
	in.Policy.Hosts, in.Policy.Domains = 3, 2
	if p := checked(t, in); len(p.Rounds) != 1 {
		t.Errorf("with two domains at once %d rounds", len(p.Rounds))
	}
}

func TestHostsThatAreAwayAreLeftOutWithTheReason(t *testing.T) {
	in := three(on("h1", "a", 3), on("h2", "b", 3))
	in.Hosts[2].Away = &Refusal{"it does not answer", "bring its agent back"}
	in.Hosts[1].Patch, in.Hosts[1].RebootRequired = nil, false
	p := checked(t, in)
	if len(p.Rounds) != 1 || p.Skipped[0].Host != "h3" || p.Skipped[0].Remedy == "" || p.Current[0] != "h2" || p.Forecast()["a"].Host != "h2" {
		t.Errorf("got %+v", p)
	}
}

func TestTheModeIsTheSimplestThatMeetsTheBudget(t *testing.T) {
	in := three()
	in.Rates = Rates{Bandwidth: 1 << 30, Freeze: 100 * time.Millisecond}
	quiet, busy := on("h1", "quiet", 4<<30), on("h1", "busy", 4<<30)
	busy.DirtyPerSecond = 2 << 30
	for name, test := range map[string]struct {
		pod     Pod
		pool    []Mode
		able    []Mode
		budget  time.Duration
		want    Mode
		silence time.Duration
	}{
		"pages are sent before":        {quiet, []Mode{Stop, Precopy}, []Mode{Stop, Precopy}, time.Second, Precopy, 100 * time.Millisecond},
		"the host cannot track pages":  {quiet, []Mode{Stop, Precopy}, []Mode{Stop}, time.Second, "", 0},
		"the budget allows a stop":     {quiet, []Mode{Stop, Precopy}, []Mode{Stop}, 5 * time.Second, Stop, 4100 * time.Millisecond},
		"a stop is simpler":            {quiet, []Mode{Stop, Precopy}, []Mode{Stop, Precopy}, 5 * time.Second, Stop, 4100 * time.Millisecond},
		"the pool allows no stop":      {quiet, []Mode{Precopy}, []Mode{Stop, Precopy}, 5 * time.Second, Precopy, 100 * time.Millisecond},
		"sending before does not help": {busy, []Mode{Stop, Precopy}, []Mode{Stop, Precopy}, time.Second, "", 0},
		"pages may follow":             {busy, []Mode{Stop, Precopy, Postcopy}, []Mode{Stop, Precopy, Postcopy}, time.Second, Postcopy, 100 * time.Millisecond},
		"pages follow only if needed":  {busy, []Mode{Stop, Postcopy}, []Mode{Stop, Postcopy}, 5 * time.Second, Stop, 4100 * time.Millisecond},
		"the pod must allow it too":    {busy, []Mode{Stop, Postcopy}, []Mode{Stop}, time.Second, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			in.Policy.Modes, in.Policy.Budget = test.pool, test.budget
			test.pod.Modes = test.able
			got := in.mode(test.pod)
			if got != test.want {
				t.Fatalf("got %q", got)
			}
			if silent, _ := in.blackout(test.pod, got); got != "" && silent != test.silence {
				t.Errorf("silent for %s", silent)
			}
		})
	}
}

func TestARoundTakesAsLongAsItsBusiestHost(t *testing.T) {
	in := three(on("h1", "a", 1<<30), on("h1", "b", 1<<30))
	for i := range in.Hosts {
		in.Hosts[i].Memory = 8 << 30
	}
	in.Rates = Rates{Bandwidth: 1 << 30, Parallel: 2, Freeze: time.Second, Move: 2 * time.Second, Package: 5 * time.Second, Boot: time.Minute, Verify: 10 * time.Second}
	in.Policy.Soak = time.Minute
	p := checked(t, in)
	last := p.Rounds[len(p.Rounds)-1]
	// Two moves at a time: 3 s around them, 2 s of copying; then 5 + 60 + 10 s.
	if last.Duration != 80*time.Second || p.Duration != 75*time.Second*2+80*time.Second+3*time.Minute {
		t.Errorf("the round takes %s, all %s", last.Duration, p.Duration)
	}
}

func TestInputThatContradictsItselfIsAnError(t *testing.T) {
	for name, spoil := range map[string]func(*Input){
		"a host twice":      func(in *Input) { in.Hosts[1].Name = "h1" },
		"a pod twice":       func(in *Input) { in.Pods = append(in.Pods, in.Pods[0]) },
		"a pod on no host":  func(in *Input) { in.Pods[0].Host = "h9" },
		"no host at once":   func(in *Input) { in.Policy.Hosts = 0 },
		"no way to compare": func(in *Input) { in.Pair = nil },
	} {
		in := three(on("h1", "a", 1))
		spoil(&in)
		if _, err := Make(in); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAPoolsPolicyIsThePlans(t *testing.T) {
	p, err := pool.Load("../../configs/pools/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Policy{
		Pool: "web", Hosts: 2, Domains: 1, Canaries: 1, Reboot: RebootWhenRequired, WithoutDrain: true, Budget: 800 * time.Millisecond,
		Modes: []Mode{Precopy, Stop}, Grace: 30 * time.Second, Return: ReturnAffinity, Soak: 2 * time.Minute, SoakCanaries: 20 * time.Minute,
	}
	if diff := cmp.Diff(want, PolicyOf(p)); diff != "" {
		t.Error(diff)
	}
	if got := ApartOf(p, "cache", map[string]string{"app": "redis"}); len(got) != 1 || got[0] != (Apart{"redis", true}) {
		t.Errorf("groups %v", got)
	}
	minimal, err := pool.Load("../../configs/pools/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := PolicyOf(minimal); got.Domains != 0 || got.StopWhatCannotMove || ApartOf(minimal, "cache", nil) != nil {
		t.Errorf("got %+v", got)
	}
}
