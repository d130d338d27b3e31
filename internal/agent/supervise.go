package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods"
	"drydock/pods/sidecar"
)

// supervisor restarts the containers that end, by their pod's policy, and asks their probes.
type supervisor struct {
	*agent
	// changed gets a value when a container has ended or started.
	changed chan struct{}

	mu      sync.Mutex
	backoff map[string]backoff
	health  map[string]*health
	// looking are the pods that are looked after at the moment.
	looking map[string]bool
}

// backoff spaces the restarts of a container that ends again and again.
type backoff struct {
	next time.Time
	wait time.Duration
}

const (
	superviseEvery = 500 * time.Millisecond
	firstBackoff   = 500 * time.Millisecond
	longestBackoff = time.Minute
)

func newSupervisor(a *agent) *supervisor {
	return &supervisor{agent: a, changed: make(chan struct{}, 1), backoff: make(map[string]backoff), health: make(map[string]*health), looking: make(map[string]bool)}
}

// run looks after every pod again and again. Each is looked after by itself: one whose probe hangs delays no other.
func (s *supervisor) run(ctx context.Context) error {
	tick := time.NewTicker(superviseEvery)
	defer tick.Stop()
	var group sync.WaitGroup
	defer group.Wait()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		names, err := s.pods.Names()
		if err != nil {
			s.log.Error("list pods", "error", err)
			continue
		}
		for _, pod := range names {
			if s.begin(pod) {
				group.Go(func() {
					defer s.end(pod)
					if err := s.look(ctx, pod); err != nil && !errors.Is(err, pods.ErrNotFound) {
						s.log.Error("look after pod", "pod", pod, "error", err)
					}
				})
			}
		}
	}
}

// begin says whether a pod is to be looked after now: not while that is being done.
func (s *supervisor) begin(pod string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looking[pod] {
		return false
	}
	s.looking[pod] = true
	return true
}

func (s *supervisor) end(pod string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.looking, pod)
}

// look restarts what ended in one pod. Pods that somebody acts on, or that do not run here, are left alone.
func (s *supervisor) look(ctx context.Context, pod string) error {
	return s.engine.WithResident(ctx, pod, func() error {
		status, err := s.pods.Status(ctx, pod)
		if err != nil {
			return err
		}
		if status.Phase == drydockv1.PodPhase_POD_PHASE_ENDED {
			return nil
		}
		var probes sync.WaitGroup
		defer probes.Wait()
		for i, c := range status.Containers {
			switch {
			case sidecar.Is(c.Name):
				if err := s.lookAfterShim(ctx, pod, c); err != nil {
					return err
				}
			case c.State == "running":
				probes.Go(func() { s.ask(ctx, pod, status.Spec.Containers[i]) })
			case c.State == "stopped" || c.State == "absent":
				if err := s.restart(ctx, pod, status.Spec.RestartPolicy, c); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// lookAfterShim: a shim serves whatever the pod's policy says of its program, and is new to the connections that come.
func (s *supervisor) lookAfterShim(ctx context.Context, pod string, c *drydockv1.ContainerStatus) error {
	rec, err := s.pods.Record(pod)
	if err != nil {
		return err
	}
	return s.shims.look(ctx, rec, c, func() error {
		return s.restart(ctx, pod, drydockv1.RestartPolicy_RESTART_POLICY_ALWAYS, c)
	})
}

func (s *supervisor) restart(ctx context.Context, pod string, policy drydockv1.RestartPolicy, c *drydockv1.ContainerStatus) error {
	rec, err := s.pods.Record(pod)
	if err != nil {
		return err
	}
	failed := c.State == "absent" || c.ExitCode != 0
	if policy == drydockv1.RestartPolicy_RESTART_POLICY_NEVER || policy == drydockv1.RestartPolicy_RESTART_POLICY_ON_FAILURE && !failed {
		rec.Ended = true
		s.note()
		return s.pods.Save(rec)
	}
	key := pod + "/" + c.Name
	s.mu.Lock()
	b := s.backoff[key]
	if time.Now().Before(b.next) {
		s.mu.Unlock()
		return nil
	}
	if time.Since(b.next) > 10*longestBackoff {
		b.wait = 0
	}
	b.wait = min(max(2*b.wait, firstBackoff), longestBackoff)
	b.next = time.Now().Add(b.wait)
	s.backoff[key] = b
	s.mu.Unlock()
	s.log.Info("container ended, restarting", "pod", pod, "container", c.Name, "exit", c.ExitCode)
	if rec.Restarts == nil {
		rec.Restarts = make(map[string]int32)
	}
	rec.Restarts[c.Name]++
	if err := s.pods.Save(rec); err != nil {
		return err
	}
	defer s.note()
	return s.pods.StartContainer(ctx, pod, c.Name)
}

func (s *supervisor) note() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// status is a pod as an operator sees it.
func (s *supervisor) status(ctx context.Context, pod string) (*drydockv1.Pod, error) {
	status, err := s.pods.Status(ctx, pod)
	if err != nil {
		return nil, err
	}
	status.Host = s.here.Host
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range status.Containers {
		if h := s.health[pod+"/"+c.Name]; h != nil && h.known {
			c.Healthy, c.HealthMessage = &h.ok, h.message
		}
	}
	return status, nil
}

// lookWithin is how long a report waits for what containerd says of one pod.
const lookWithin = 3 * time.Second

// all is every pod that is here, or of which something is here. One that cannot be looked at, or not in time, is reported with
// the reason, and keeps none of the others from being reported.
func (s *supervisor) all(ctx context.Context) ([]*drydockv1.Pod, error) {
	names, err := s.engine.Remembered()
	if err != nil {
		return nil, err
	}
	found := make([]*drydockv1.Pod, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() { found[i] = s.reported(ctx, name) })
	}
	group.Wait()
	return slices.DeleteFunc(found, func(pod *drydockv1.Pod) bool { return pod == nil }), ctx.Err()
}

// reported is a pod as this host reports it, nil where nothing of it but a journal is here.
func (s *supervisor) reported(ctx context.Context, pod string) *drydockv1.Pod {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	err := s.engine.Damage(pod)
	if err == nil {
		var status *drydockv1.Pod
		if status, err = s.status(ctx, pod); err == nil {
			return status
		}
	}
	if errors.Is(err, pods.ErrNotFound) {
		return nil
	}
	return &drydockv1.Pod{
		Spec: &drydockv1.PodSpec{Name: pod}, Host: s.here.Host, Phase: drydockv1.PodPhase_POD_PHASE_UNKNOWN, Message: err.Error(),
	}
}
