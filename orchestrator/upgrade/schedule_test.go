package upgrade

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// upgradeOf has pods p0, p1, ... in states: p(ending), r(unning), u(pgraded just now), s(oaked), f(ailed), and in groups a and b by turns.
func upgradeOf(s *drydockv1.UpgradeSchedule, states string) *drydockv1.Upgrade {
	u := &drydockv1.Upgrade{Id: "u1", Service: "shop", To: "v2", Schedule: s}
	for i, c := range states {
		p := &drydockv1.UpgradePod{Pod: fmt.Sprintf("p%d", i), From: "v1", Group: string("ab"[i%2]), State: podPending}
		switch c {
		case 'r':
			p.State = podRunning
		case 'u':
			p.State, p.Ended = podUpgraded, timestamppb.New(noon)
		case 's':
			p.State, p.Ended = podUpgraded, timestamppb.New(noon.Add(-time.Hour))
		case 'f':
			p.State = podFailed
		}
		u.Pods = append(u.Pods, p)
	}
	return u
}

func TestASchedulesTurn(t *testing.T) {
	minute := durationpb.New(time.Minute)
	for _, c := range []struct {
		name     string
		schedule *drydockv1.UpgradeSchedule
		states   string
		world    world
		begin    string
		reason   string
	}{
		{"one after the other", &drydockv1.UpgradeSchedule{Kind: "rolling"}, "pppp", world{}, "p0", ""},
		{"nobody while one runs", &drydockv1.UpgradeSchedule{Kind: "rolling"}, "rppp", world{}, "", "are being upgraded"},
		{"two at once", &drydockv1.UpgradeSchedule{Kind: "rolling", AtOnce: 2}, "srpp", world{}, "p2", ""},
		{"not within the soak", &drydockv1.UpgradeSchedule{Kind: "rolling", Soak: minute}, "uppp", world{}, "", "soak"},
		{"after the soak", &drydockv1.UpgradeSchedule{Kind: "rolling", Soak: minute}, "sppp", world{}, "p1", ""},
		{"not without the flag", &drydockv1.UpgradeSchedule{Kind: "flag", Flag: "spring"}, "pppp", world{flags: []string{"autumn"}}, "", "flag spring is not set"},
		{"with the flag", &drydockv1.UpgradeSchedule{Kind: "flag", Flag: "spring"}, "pppp", world{flags: []string{"spring"}}, "p0", ""},
		{"the first stage", &drydockv1.UpgradeSchedule{Kind: "gradual", Percent: 50, AtOnce: 9}, "pppp", world{}, "p0 p1", ""},
		{"no further in a stage", &drydockv1.UpgradeSchedule{Kind: "gradual", Percent: 50, AtOnce: 9, Soak: minute}, "supp", world{}, "", "soak"},
		{"the next stage", &drydockv1.UpgradeSchedule{Kind: "gradual", Percent: 50, AtOnce: 9, Soak: minute}, "sspp", world{}, "p2 p3", ""},
		{"a stage has at least one pod", &drydockv1.UpgradeSchedule{Kind: "gradual", Percent: 1}, "pp", world{}, "p0", ""},
		{"not before clients", &drydockv1.UpgradeSchedule{Kind: "clients-first"}, "pp", world{behind: []string{"till"}}, "", "pod till does not speak v2 yet"},
		{"after clients", &drydockv1.UpgradeSchedule{Kind: "clients-first"}, "pp", world{}, "p0", ""},
		{"servers do not wait", &drydockv1.UpgradeSchedule{Kind: "servers-first"}, "pp", world{behind: []string{"till"}}, "p0", ""},
		{"one of each group", &drydockv1.UpgradeSchedule{Kind: "one-per-group", AtOnce: 9}, "pppp", world{}, "p0 p1", ""},
		{"not the group that is busy", &drydockv1.UpgradeSchedule{Kind: "one-per-group", AtOnce: 9}, "rppp", world{}, "p1", ""},
		{"not while one is unwell", &drydockv1.UpgradeSchedule{Kind: "rolling"}, "sppp", world{unwell: []string{"p0"}}, "", "p0 was upgraded, and is not healthy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.world.now = noon.Add(time.Second)
			got := next(upgradeOf(c.schedule, c.states), c.world)
			if begin := strings.Join(got.begin, " "); begin != c.begin {
				t.Errorf("%q begin, not %q", begin, c.begin)
			}
			if c.reason != "" && !strings.Contains(got.reason, c.reason) {
				t.Errorf("it waits for %q, not for %q", got.reason, c.reason)
			}
		})
	}
}

// However pods come to their end, no schedule lets more begin than it says, and every upgrade comes to its end.
func TestLimitsHoldWhateverHappensInWhichOrder(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := &drydockv1.UpgradeSchedule{
			Kind: []string{"rolling", "gradual", "one-per-group"}[random.IntN(3)], AtOnce: int32(random.IntN(4)),
			Soak: durationpb.New(time.Duration(random.IntN(3)) * time.Minute), Percent: int32(1 + random.IntN(60)),
		}
		u := upgradeOf(s, strings.Repeat("p", 1+random.IntN(12)))
		now := noon
		for turns := 0; ; turns++ {
			if turns > 1000 {
				t.Fatalf("seed %d: no end", seed)
			}
			begun := next(u, world{now: now}).begin
			for _, name := range begun {
				podOf(u, name).State = podRunning
			}
			holds(t, seed, u, now)
			left := 0
			for _, p := range u.GetPods() {
				if p.GetState() == podRunning && random.IntN(3) == 0 {
					p.State, p.Ended = podUpgraded, timestamppb.New(now)
				}
				if p.GetState() != podUpgraded {
					left++
				}
			}
			if left == 0 {
				break
			}
			now = now.Add(time.Duration(random.IntN(90)) * time.Second)
		}
	}
}

func holds(t *testing.T, seed uint64, u *drydockv1.Upgrade, now time.Time) {
	t.Helper()
	busy, groups := 0, map[string]int{}
	for _, p := range u.GetPods() {
		if busyUntil(p, u.GetSchedule()).After(now) {
			busy++
			groups[p.GetGroup()]++
		}
	}
	if busy > max(int(u.GetSchedule().GetAtOnce()), 1) {
		t.Fatalf("seed %d: %d are in progress, %d may be", seed, busy, u.GetSchedule().GetAtOnce())
	}
	if u.GetSchedule().GetKind() == onePerGroup && (groups["a"] > 1 || groups["b"] > 1) {
		t.Fatalf("seed %d: two of a group are in progress", seed)
	}
}

func TestTranslatorsThatAreNeeded(t *testing.T) {
	servers := []*drydockv1.ServicePod{{Pod: "s1", Version: "v1"}, {Pod: "s3", Version: "v3"}}
	clients := []*drydockv1.ServiceClient{{Pod: "c1", Version: "v1"}, {Pod: "c2", Version: "v2"}}
	var got []string
	for _, n := range needed([]string{"v1", "v2", "v3"}, servers, clients) {
		got = append(got, fmt.Sprintf("%s>%s %v %v", n.GetFrom(), n.GetTo(), n.GetClients(), n.GetServers()))
	}
	want := []string{"v1>v2 [c1] [s3]", "v2>v3 [c1 c2] [s3]", "v2>v1 [c2] [s1]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAPodHasAShimAsLongAsSomebodyMaySpeakAnotherVersion(t *testing.T) {
	pod := func(name string, labels ...string) *drydockv1.Pod {
		spec := &drydockv1.PodSpec{Name: name, Addresses: []string{"10.0.0.1/8"}, Labels: map[string]string{}, Containers: []*drydockv1.Container{{Name: name}}}
		for i := 0; i < len(labels); i += 2 {
			spec.Labels[labels[i]] = labels[i+1]
		}
		return &drydockv1.Pod{Spec: spec}
	}
	old := pod("old", "drydock/service", "shop", "drydock/version", "v1", "drydock/ports", "80.81")
	young := pod("young", "drydock/service", "shop", "drydock/version", "v2", "drydock/ports", "80")
	till := pod("till", "speaks.drydock/shop", "v2")
	for _, c := range []struct {
		name   string
		head   string
		of     *drydockv1.Pod
		others []*drydockv1.Pod
		want   string
	}{
		{"alone", "client: {default: v1}", old, nil, "none"},
		{"the record's default is another", "client: {default: v1}", young, nil, "v2 [80] map[]"},
		{"a client of another version", "client: {default: v1}", old, []*drydockv1.Pod{till}, "v1 [80 81] map[10.0.0.1:v2]"},
		{"another server, and nobody who could say so", "client: {default: v1}", old, []*drydockv1.Pod{young}, "none"},
		{"another server, and a header that could say so", "client: {default: v1, header: X-V}", old, []*drydockv1.Pod{young}, "v1 [80 81] map[]"},
		{"no port is known", "client: {default: v1}", pod("mute", "drydock/service", "shop", "drydock/version", "v2"), nil, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stored := &drydockv1.ServiceRecord{Name: "shop", Text: []byte(c.head)}
			h, err := headOf(stored)
			if err != nil {
				t.Fatal(err)
			}
			f := forShims{stored: stored, head: h}
			shim := f.shimOf(c.of.GetSpec(), append(c.others, c.of))
			got := "none"
			if shim != nil {
				got = fmt.Sprintf("%s %v %v", shim.GetVersion(), shim.GetPorts(), shim.GetClients())
				c.of.Spec.Shim = shim
				if again := f.shimOf(c.of.GetSpec(), append(c.others, c.of)); again.GetGeneration() != 1 {
					t.Errorf("asked again it has generation %d", again.GetGeneration())
				}
				c.of.Spec.Shim = nil
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
