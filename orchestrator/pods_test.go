package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

func TestAPodRunsStopsStartsAndIsRemoved(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	l.image("")
	pod := l.mustRun("web", "")
	if pod.GetPhase() != phaseRunning || pod.GetHost() != "h1" || pod.GetSpec().GetContainers()[0].GetImageDigest() != "sha256:7" {
		t.Errorf("got %v", pod)
	}
	if got := pod.GetSpec(); got.GetAddresses()[0] != "10.77.128.1/16" || got.GetMac() != "02:dd:0a:4d:80:01" || got.GetGateway() != "10.77.0.1" {
		t.Errorf("got %v", got)
	}
	if _, err := l.run("web", ""); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("ran twice: %v", err)
	}
	_, err := l.admin.RemovePod(t.Context(), connect.NewRequest(&drydockv1.RemovePodRequest{Name: "web"}))
	l.refused(err, "it runs on h1")
	for range 2 {
		stopped, err := l.admin.StopPod(t.Context(), connect.NewRequest(&drydockv1.StopPodRequest{Name: "web"}))
		l.must(err)
		if stopped.Msg.GetPod().GetPhase() != phaseStopped || h.runs("web") {
			t.Errorf("got %v", stopped.Msg.GetPod())
		}
	}
	for range 2 {
		started, err := l.admin.StartPod(t.Context(), connect.NewRequest(&drydockv1.StartPodRequest{Name: "web"}))
		l.must(err)
		if got := started.Msg.GetPod(); got.GetPhase() != phaseRunning || !h.runs("web") || !sameSpec(got.GetSpec(), pod.GetSpec()) {
			t.Errorf("got %v", got)
		}
	}
	_, err = l.admin.RemovePod(t.Context(), connect.NewRequest(&drydockv1.RemovePodRequest{Name: "web", Force: true}))
	l.must(err)
	if _, err := l.admin.GetPod(t.Context(), connect.NewRequest(&drydockv1.GetPodRequest{Name: "web"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("still there: %v", err)
	}
	if taken, err := l.taken(t.Context()); err != nil || len(taken) != 0 {
		t.Errorf("addresses left: %v, %v", taken, err)
	}
	if again := l.mustRun("web", ""); again.GetEpoch() <= pod.GetEpoch() {
		t.Errorf("epoch %d after %d", again.GetEpoch(), pod.GetEpoch())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, term := range h.terms {
		if term == "" || term == "0" {
			t.Errorf("asked under term %q", term)
		}
	}
}

func TestWhatCannotRunIsRefusedAndLeavesNothing(t *testing.T) {
	l := newLab(t)
	_, err := l.run("web", "")
	l.refused(err, "image redis:7 is not known")
	h := l.join("h1")
	l.image("h1")
	spec := func(change func(*drydockv1.PodSpec)) *drydockv1.PodSpec {
		s := &drydockv1.PodSpec{Name: "web", Containers: []*drydockv1.Container{{Image: "redis:7"}}}
		change(s)
		return s
	}
	for name, test := range map[string]struct {
		change func(*drydockv1.PodSpec)
		on     string
		code   connect.Code
		says   string
	}{
		"a bad name":   {func(s *drydockv1.PodSpec) { s.Name = "Web!" }, "", connect.CodeInvalidArgument, "a-z"},
		"no container": {func(s *drydockv1.PodSpec) { s.Containers = nil }, "", connect.CodeInvalidArgument, "image"},
		"an unknown volume": {func(s *drydockv1.PodSpec) {
			s.Containers[0].Mounts = []*drydockv1.VolumeMount{{Volume: "v", Path: "/v"}}
		}, "", connect.CodeInvalidArgument, `"v"`},
		"an address elsewhere":  {func(s *drydockv1.PodSpec) { s.Addresses = []string{"192.168.0.1"} }, "", connect.CodeInvalidArgument, "10.77.0.0/16"},
		"the gateway's address": {func(s *drydockv1.PodSpec) { s.Addresses = []string{"10.77.0.1"} }, "", connect.CodeInvalidArgument, "10.77.0.1"},
		"a MAC":                 {func(s *drydockv1.PodSpec) { s.Mac = "02:00:00:00:00:01" }, "", connect.CodeInvalidArgument, "MAC"},
		"an unknown host":       {func(*drydockv1.PodSpec) {}, "h9", connect.CodeNotFound, "h9"},
		"an unknown image":      {func(s *drydockv1.PodSpec) { s.Containers[0].Image = "nginx" }, "", connect.CodeFailedPrecondition, "nginx"},
		"no image reference":    {func(s *drydockv1.PodSpec) { s.Containers[0].Image = "A B" }, "", connect.CodeInvalidArgument, "A B"},
		"too much memory": {func(s *drydockv1.PodSpec) {
			s.Containers[0].Resources = &drydockv1.Resources{MemoryLimitBytes: 1 << 40}
		}, "h1", connect.CodeFailedPrecondition, "memory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.runSpec(spec(test.change), test.on)
			if connect.CodeOf(err) != test.code || !contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	h.set(func() { h.refuse = connect.NewError(connect.CodeFailedPrecondition, errors.New("no room here")) })
	_, err = l.run("web", "")
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || !contains(err.Error(), "host h1: no room here") {
		t.Errorf("got %v", err)
	}
	pods, err := l.listPods(t.Context(), "")
	taken, err2 := l.taken(t.Context())
	if err := errors.Join(err, err2); err != nil || len(pods) != 0 || len(taken) != 0 {
		t.Errorf("left: %v %v, %v", pods, taken, err)
	}
}

func TestPlacementTakesTheHostWithTheMostMemoryThatIsNotCordoned(t *testing.T) {
	l := newLab(t)
	l.join("h1")
	big := l.join("h2")
	big.set(func() { big.memory = 4 << 30 })
	l.image("h1")
	l.eventually("h2's memory is known", func() bool {
		h, err := l.host(t.Context(), "h2")
		return err == nil && h.report.GetInfo().GetMemoryAvailableBytes() == 4<<30
	})
	if pod := l.mustRun("a", ""); pod.GetHost() != "h2" {
		t.Errorf("placed on %s", pod.GetHost())
	}
	l.must(l.cordon(t.Context(), "h2", "somebody", nil))
	if pod := l.mustRun("b", ""); pod.GetHost() != "h1" {
		t.Errorf("placed on %s", pod.GetHost())
	}
	_, err := l.run("c", "h2")
	l.refused(err, "host h2 is cordoned: by somebody")
	l.must(l.cordon(t.Context(), "h1", "somebody", nil))
	_, err = l.run("c", "")
	l.refused(err, "host h1 is cordoned", "host h2 is cordoned")
	_, err = l.resumeHost(t.Context(), "h2")
	l.must(err)
	if pod := l.mustRun("c", "h2"); pod.GetHost() != "h2" {
		t.Errorf("placed on %s", pod.GetHost())
	}
}

func TestAddressesAreGivenOnceHoweverManyAsk(t *testing.T) {
	l := newLab(t)
	l.join("h1")
	l.image("")
	const asked = 20
	// A /28 has 16 addresses, of which the first and the last are none that a pod can have.
	const there = 14
	var group sync.WaitGroup
	var mu sync.Mutex
	seen := make(map[string]string)
	refusals := 0
	for i := range asked {
		group.Go(func() {
			name := fmt.Sprintf("p%d", i)
			pod, err := l.run(name, "")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refusals++
				if connect.CodeOf(err) != connect.CodeFailedPrecondition {
					t.Error(err)
				}
				return
			}
			address := pod.GetSpec().GetAddresses()[0]
			if other, ok := seen[address]; ok {
				t.Errorf("%s is %s's and %s's", address, other, name)
			}
			seen[address] = name
		})
	}
	group.Wait()
	if len(seen) != there+1-1 || refusals != asked-len(seen) {
		t.Errorf("%d addresses given, %d refused", len(seen), refusals)
	}
	_, err := l.runSpec(&drydockv1.PodSpec{Name: "x", Addresses: []string{"10.77.128.3"}, Containers: []*drydockv1.Container{{Image: "redis:7"}}}, "")
	l.refused(err, "address 10.77.128.3 is pod")
}

// TestADeadControllersWorkIsFinished kills the controller at each point of making, stopping and removing a pod, starts another
// over the same store, and looks that the pod becomes what was wanted.
func TestADeadControllersWorkIsFinished(t *testing.T) {
	runs := func(l *lab, h *fakeHost) bool {
		return h.runs("web") && l.owner("web").Settled && l.view("web").GetPhase() == phaseRunning
	}
	stopped := func(l *lab, h *fakeHost) bool { return !h.runs("web") && l.owner("web").State == owner.Stopped }
	removed := func(l *lab, h *fakeHost) bool {
		_, err := l.pod(t.Context(), "web")
		taken, _ := l.taken(t.Context())
		h.mu.Lock()
		defer h.mu.Unlock()
		return connect.CodeOf(err) == connect.CodeNotFound && len(taken) == 0 && !h.remains["web"]
	}
	ctx := context.Background()
	create := func(l *lab) error { _, err := l.run("web", ""); return err }
	stop := func(l *lab) error {
		_, err := l.admin.StopPod(ctx, connect.NewRequest(&drydockv1.StopPodRequest{Name: "web"}))
		return err
	}
	remove := func(l *lab) error {
		_, err := l.admin.RemovePod(ctx, connect.NewRequest(&drydockv1.RemovePodRequest{Name: "web", Force: true}))
		return err
	}
	for _, test := range []struct {
		name   string
		before bool
		act    func(*lab) error
		points []string
		holds  func(*lab, *fakeHost) bool
	}{
		{"run", false, create, []string{"claimed", "owner created", "owner running", "tasks created"}, runs},
		{"stop", true, stop, []string{"owner stopping", "tasks stopped"}, stopped},
		{"remove", true, remove, []string{"owner stopping", "tasks stopped", "remains removed", "owner removed"}, removed},
	} {
		for _, point := range test.points {
			t.Run(test.name+" at "+point, func(t *testing.T) {
				l := newLab(t)
				h := l.join("h1")
				l.image("")
				if test.before {
					l.mustRun("web", "")
				}
				died := l.dieAt(point)
				if err := test.act(l); err == nil {
					t.Error("succeeded")
				}
				<-died
				l.must(<-l.stopped)
				l.start()
				l.eventually("the pod is as wanted", func() bool { return test.holds(l, h) })
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.started["web"] != 1 {
					t.Errorf("started %d times", h.started["web"])
				}
			})
		}
	}
}

func TestExecAndLogsComeFromThePodsHost(t *testing.T) {
	l := newLab(t)
	l.join("h1")
	l.image("")
	l.mustRun("web", "")
	exec := l.admin.ExecPod(t.Context())
	l.must(exec.Send(&drydockv1.ExecRequest{Event: &drydockv1.ExecRequest_Start_{Start: &drydockv1.ExecRequest_Start{Pod: "web", Command: []string{"cat"}}}}))
	l.must(exec.Send(&drydockv1.ExecRequest{Event: &drydockv1.ExecRequest_Stdin{Stdin: []byte("hello")}}))
	answer, err := exec.Receive()
	if err != nil || string(answer.GetStdout()) != "hello" {
		t.Fatalf("got %v, %v", answer, err)
	}
	l.must(exec.CloseRequest())
	if answer, err = exec.Receive(); err != nil || answer.GetExitCode() != 7 {
		t.Fatalf("got %v, %v", answer, err)
	}
	l.must(exec.CloseResponse())
	logs, err := l.admin.GetPodLogs(t.Context(), connect.NewRequest(&drydockv1.GetPodLogsRequest{Pod: "web"}))
	l.must(err)
	if !logs.Receive() || string(logs.Msg().GetData()) != "log of web" {
		t.Errorf("got %v, %v", logs.Msg(), logs.Err())
	}
	l.must(logs.Close())
	logs, err = l.admin.GetPodLogs(t.Context(), connect.NewRequest(&drydockv1.GetPodLogsRequest{Pod: "none"}))
	l.must(err)
	if logs.Receive() || connect.CodeOf(logs.Err()) != connect.CodeNotFound {
		t.Errorf("got %v", logs.Err())
	}
	l.must(logs.Close())
}

func TestAPodThatItsHostCannotLookAtIsUnknownWithTheReason(t *testing.T) {
	l := newLab(t)
	h := l.join("h1")
	l.image("h1")
	l.mustRun("web", "h1")
	l.mustRun("other", "h1")
	h.set(func() { h.damaged = map[string]string{"web": "journal is torn"} })
	l.eventually("the damaged pod is unknown", func() bool {
		pod := l.view("web")
		return pod.GetPhase() == phaseUnknown && contains(pod.GetMessage(), "host h1: journal is torn")
	})
	if pod := l.view("other"); pod.GetPhase() != phaseRunning {
		t.Errorf("the other pod is %v", pod)
	}
}
