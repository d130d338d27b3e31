package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/orchestrator/rollout"
)

// fakePatcher is a host's PatchService that installs in its head. What the embedded handler answers, a host never does.
type fakePatcher struct {
	drydockv1connect.UnimplementedPatchServiceHandler
	h *fakeHost

	mu    sync.Mutex
	patch *drydockv1.Patch
	// steps counts what was really done, by name; a call that is repeated counts once.
	steps map[string]int
	done  map[string]*drydockv1.PatchResult
	// fails is asked before each step: an error is answered, a refusal is one of the step's.
	fails func(step string) (*drydockv1.Refusal, error)
	// away: after a reboot the host does not come back.
	away bool
	// mute: the answer to an order to reboot is lost.
	mute     bool
	occupied bool
	hooks    []string
}

func (f *fakePatcher) with(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// lacks gives the host something to install.
func (f *fakePatcher) lacks(reboot bool) {
	f.with(func() {
		f.patch = &drydockv1.Patch{
			Packages:       []*drydockv1.PinnedPackage{{Name: "openssl", From: "3.0.1", To: "3.0.2", Security: true, Reason: "DSA-1"}},
			RebootRequired: reboot, DownloadBytes: 1000,
		}
		f.done = map[string]*drydockv1.PatchResult{}
	})
	f.h.set(func() { f.h.summary = &drydockv1.StatusSummary{Updates: 1, SecurityUpdates: 1, RebootRequired: reboot} })
}

func (f *fakePatcher) count(step string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.steps[step]
}

func (f *fakePatcher) failing(step string) (*drydockv1.Refusal, error) {
	f.mu.Lock()
	fails := f.fails
	f.mu.Unlock()
	if fails == nil {
		return nil, nil
	}
	return fails(step)
}

func (f *fakePatcher) note(step string) {
	f.with(func() { f.steps[step]++ })
}

func (f *fakePatcher) Resolve(_ context.Context, request *connect.Request[drydockv1.ResolveRequest]) (*connect.Response[drydockv1.ResolveResponse], error) {
	refusal, err := f.failing("resolve")
	if err != nil {
		return nil, err
	}
	answer := &drydockv1.ResolveResponse{Patch: &drydockv1.Patch{}}
	if refusal != nil {
		answer.Refusals = append(answer.Refusals, refusal)
	}
	f.with(func() {
		if f.patch != nil {
			answer.Patch = proto.CloneOf(f.patch)
		}
	})
	return connect.NewResponse(answer), nil
}

func (f *fakePatcher) Download(_ context.Context, _ *connect.Request[drydockv1.DownloadRequest], stream *connect.ServerStream[drydockv1.DownloadResponse]) error {
	if _, err := f.failing("download"); err != nil {
		return err
	}
	f.note("download")
	return stream.Send(&drydockv1.DownloadResponse{BytesDone: 1000, BytesTotal: 1000, Activity: "openssl"})
}

// Apply installs once for each id, and never while a pod runs here.
func (f *fakePatcher) Apply(_ context.Context, request *connect.Request[drydockv1.ApplyRequest], stream *connect.ServerStream[drydockv1.ApplyResponse]) error {
	refusal, err := f.failing("apply")
	if err != nil {
		return err
	}
	id := request.Msg.GetId()
	var result *drydockv1.PatchResult
	f.with(func() {
		if result = f.done[id]; result != nil {
			return
		}
		result = &drydockv1.PatchResult{Id: id, Done: refusal == nil}
		if refusal != nil {
			result.Refusals = append(result.Refusals, refusal)
		} else {
			f.steps["apply"]++
		}
		f.done[id] = result
	})
	if err := stream.Send(&drydockv1.ApplyResponse{Percent: 50, Activity: "unpacks openssl"}); err != nil {
		return err
	}
	return stream.Send(&drydockv1.ApplyResponse{Percent: 100, Result: result})
}

func (f *fakePatcher) Occupy(context.Context, *connect.Request[drydockv1.OccupyRequest]) (*connect.Response[drydockv1.OccupyResponse], error) {
	if _, err := f.failing("occupy"); err != nil {
		return nil, err
	}
	f.with(func() { f.occupied = true })
	return connect.NewResponse(&drydockv1.OccupyResponse{Automatic: []*drydockv1.Refusal{because("unattended-upgrades reboots it", "switch that off")}}), nil
}

func (f *fakePatcher) Release(context.Context, *connect.Request[drydockv1.ReleaseRequest]) (*connect.Response[drydockv1.ReleaseResponse], error) {
	f.with(func() { f.occupied = false })
	return connect.NewResponse(&drydockv1.ReleaseResponse{}), nil
}

// Reboot ends the boot that it is told to, and no other; with a pod on the host the test has failed.
func (f *fakePatcher) Reboot(_ context.Context, request *connect.Request[drydockv1.RebootRequest]) (*connect.Response[drydockv1.RebootResponse], error) {
	refusal, err := f.failing("reboot")
	if err != nil {
		return nil, err
	}
	if refusal != nil {
		return connect.NewResponse(&drydockv1.RebootResponse{Refusals: []*drydockv1.Refusal{refusal}}), nil
	}
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	if f.h.boot != request.Msg.GetBootId() {
		return connect.NewResponse(&drydockv1.RebootResponse{Kind: "simulated", Already: true}), nil
	}
	for pod := range f.h.pods {
		f.h.l.Errorf("host %s is rebooted with pod %s", f.h.name, pod)
	}
	f.note("reboot")
	f.with(func() {
		f.h.boot = fmt.Sprintf("%s-boot-%d", f.h.name, f.steps["reboot"]+1)
		f.occupied = false
		f.h.silent = f.away
	})
	if f.mute {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("the connection is lost"))
	}
	return connect.NewResponse(&drydockv1.RebootResponse{Kind: "simulated"}), nil
}

func (f *fakePatcher) Verify(_ context.Context, request *connect.Request[drydockv1.VerifyRequest]) (*connect.Response[drydockv1.VerifyResponse], error) {
	refusal, err := f.failing("verify")
	if err != nil {
		return nil, err
	}
	f.h.mu.Lock()
	boot := f.h.boot
	f.h.mu.Unlock()
	answer := &drydockv1.VerifyResponse{BootId: boot}
	if refusal != nil {
		answer.Refusals = append(answer.Refusals, refusal)
	}
	f.with(func() {
		if f.steps["verify"]++; f.steps["verify"] == 1 {
			answer.Starting, answer.Refusals = true, nil
		}
		if request.Msg.GetOldBootId() == boot {
			answer.Refusals = append(answer.Refusals, because("it runs in the old boot", "reboot it"))
		}
	})
	return connect.NewResponse(answer), nil
}

func (f *fakePatcher) RunHook(_ context.Context, request *connect.Request[drydockv1.RunHookRequest]) (*connect.Response[drydockv1.RunHookResponse], error) {
	refusal, err := f.failing("hook")
	if err != nil {
		return nil, err
	}
	f.with(func() { f.hooks = append(f.hooks, strings.Join(request.Msg.GetCommand(), " ")) })
	answer := &drydockv1.RunHookResponse{}
	if refusal != nil {
		answer.ExitStatus, answer.Output = 3, refusal.GetReason()
	}
	return connect.NewResponse(answer), nil
}

const (
	rolloutWaiting  = drydockv1.RolloutState_ROLLOUT_STATE_WAITING
	rolloutPaused   = drydockv1.RolloutState_ROLLOUT_STATE_PAUSED
	rolloutStopped  = drydockv1.RolloutState_ROLLOUT_STATE_STOPPED
	rolloutFinished = drydockv1.RolloutState_ROLLOUT_STATE_FINISHED
	rolloutAborted  = drydockv1.RolloutState_ROLLOUT_STATE_ABORTED
	rolloutOwner    = rollout.OwnerPrefix
	hostPatched     = drydockv1.RolloutHostState_ROLLOUT_HOST_STATE_PATCHED
)

// goesOn says whether the leader carries a rollout on, hasEnded whether nobody will.
func goesOn(r *drydockv1.Rollout) bool {
	return r.GetState() == drydockv1.RolloutState_ROLLOUT_STATE_RUNNING || r.GetState() == rolloutWaiting
}

func hasEnded(r *drydockv1.Rollout) bool {
	return r.GetState() == rolloutFinished || r.GetState() == rolloutAborted
}

// cluster is a lab with hosts that lack something, pods on them, and one pool.
type cluster struct {
	*lab
	hosts map[string]*fakeHost
}

const plainPool = "name: web\nhosts: {names: [h1, h2, h3]}\nsoak: {host: 0s}\nat-once: {canaries: 0}\n"

// newCluster makes three hosts, each of which lacks something that needs a reboot and runs two pods.
func newCluster(t *testing.T, text string, options ...func(*lab)) *cluster {
	t.Helper()
	l := newLab(t, append(options, patient)...)
	return clusterOn(l, text, true)
}

// patient lets hosts be silent for longer than a busy machine keeps them so.
func patient(l *lab) { l.patience = 10 * time.Second }

// timed has the controllers go by a clock of the test's.
func timed(k *fakeClock) func(*lab) { return func(l *lab) { l.clock = k.now } }

// killer ends controllers, each at a point where none was ended before.
type killer struct {
	mu     sync.Mutex
	seen   map[string]bool
	order  []string
	cancel context.CancelFunc
	died   chan struct{}
}

// armed has a killer at the points of every controller.
func armed(k *killer) func(*lab) {
	return func(l *lab) {
		k.seen, k.died = map[string]bool{}, make(chan struct{}, 1)
		l.fault = k.at
	}
}

func (k *killer) at(point string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cancel == nil || k.seen[point] || !strings.HasPrefix(point, "rollout ") {
		return nil
	}
	k.seen[point] = true
	k.order = append(k.order, point)
	k.cancel()
	k.cancel = nil
	k.died <- struct{}{}
	return context.Canceled
}

// arm has the next point end this controller.
func (k *killer) arm(cancel context.CancelFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cancel = cancel
}

func clusterOn(l *lab, text string, reboot bool) *cluster {
	l.Helper()
	c := &cluster{lab: l, hosts: map[string]*fakeHost{}}
	hosts := l.joinAll("h1", "h2", "h3")
	l.image("h1")
	for _, h := range hosts {
		c.hosts[h.name] = h
		h.patcher.lacks(reboot)
		h.moves(hosts...)
		for _, n := range []string{"a", "b"} {
			l.mustRun(h.name+n, h.name)
		}
	}
	c.write("web", text)
	return c
}

// write puts a pool's file into its place, and waits until it is in force.
func (c *cluster) write(name, text string) {
	c.Helper()
	file := filepath.Join(c.dir, "pools", name+".yaml")
	c.must(os.WriteFile(file+".new", []byte(text), 0o600))
	c.must(os.Rename(file+".new", file))
	c.eventually("pool "+name+" is in force", func() bool {
		_, _, got, err := c.pools.Get(name)
		return err == nil && string(got) == text
	})
}

func (c *cluster) start(name string) (*drydockv1.Rollout, error) {
	response, err := c.rollouts.StartRollout(context.Background(), connect.NewRequest(&drydockv1.StartRolloutRequest{Pool: name}))
	if err != nil {
		return nil, err
	}
	return response.Msg.GetRollout(), nil
}

func (c *cluster) mustStart(name string) string {
	c.Helper()
	rollout, err := c.start(name)
	c.must(err)
	if rollout == nil {
		c.Fatal("no host lacks anything")
	}
	return rollout.GetId()
}

func (c *cluster) get(id string) *drydockv1.Rollout {
	c.Helper()
	whole, err := c.Controller.rollouts.Get(context.Background(), id)
	c.must(err)
	return whole
}

// rests waits until a rollout is in a state.
func (c *cluster) rests(id string, state drydockv1.RolloutState) *drydockv1.Rollout {
	c.Helper()
	c.eventually("rollout is "+state.String(), func() bool {
		rollout, err := c.Controller.rollouts.Get(context.Background(), id)
		if err != nil {
			c.Logf("the store does not answer: %v", err) // a machine under load may make it wait
			return false
		}
		got := rollout.GetState()
		if got != state && !goesOn(rollout) {
			c.Fatalf("rollout is %s: %v", got.String(), c.get(id))
		}
		return got == state
	})
	return c.get(id)
}

// patched checks what must hold after every rollout that has gone to its end.
func (c *cluster) patched(reboots int, hosts ...string) {
	c.Helper()
	for _, name := range hosts {
		h := c.hosts[name]
		if n := h.patcher.count("apply"); n != 1 {
			c.Errorf("host %s was patched %d times", name, n)
		}
		if n := h.patcher.count("reboot"); n != reboots {
			c.Errorf("host %s was rebooted %d times", name, n)
		}
		known, err := c.host(context.Background(), name)
		c.must(err)
		if known.record.GetCordon() != nil {
			c.Errorf("host %s is still cordoned: %v", name, known.record.GetCordon())
		}
		if h.patcher.occupied {
			c.Errorf("host %s is still occupied", name)
		}
	}
	c.allRun()
}

// allRun checks that every pod runs, once.
func (c *cluster) allRun() {
	c.Helper()
	for _, first := range slices.Sorted(maps.Keys(c.hosts)) {
		for _, n := range []string{"a", "b"} {
			pod := first + n
			var at []string
			for name, h := range c.hosts {
				if h.runs(pod) {
					at = append(at, name)
				}
			}
			if own := c.owner(pod); len(at) != 1 || own.Owner.Host != at[0] {
				c.Errorf("pod %s runs on %v, and is owned by %s (%s)", pod, at, own.Owner.Host, own.State)
			}
		}
	}
}

// becomes waits until a host is in a state.
func (c *cluster) becomes(name, state string) {
	c.Helper()
	c.eventually(name+" is "+state, func() bool {
		known, err := c.host(c.Context(), name)
		return err == nil && known.state == state
	})
}

// fakeClock is a clock that tests set forward. It never stands still.
type fakeClock struct {
	mu     sync.Mutex
	offset time.Duration
}

func clockAt(t time.Time) *fakeClock { return &fakeClock{offset: time.Until(t)} }

func (k *fakeClock) now() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Add(k.offset).Round(0)
}

func (k *fakeClock) forward(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.offset += d
}
