package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/strictyaml"
	"drydock/internal/version"
	"drydock/migrate"
	"drydock/pods"
	"drydock/pods/sidecar"
	"drydock/shim/process"
	"drydock/shim/record"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
)

// shims makes the shims of this host's pods be as controllers ask. The caller of its methods is the only one who acts on the pod.
type shims struct {
	*agent

	mu sync.Mutex
	// steered is, by pod, the process whose sockets connections were led to by this agent.
	steered map[string]uint32
}

func newShims(a *agent) *shims { return &shims{agent: a, steered: make(map[string]uint32)} }

// SetPodShim implements AgentService.
func (s *agentServer) SetPodShim(ctx context.Context, req *connect.Request[drydockv1.SetPodShimRequest]) (*connect.Response[drydockv1.SetPodShimResponse], error) {
	if err := s.admit(req, req.Msg.Pod, req.Msg.Epoch); err != nil {
		return nil, failed(err)
	}
	ctx = context.WithoutCancel(ctx)
	var state *drydockv1.ShimState
	err := s.engine.Alone(ctx, req.Msg.Pod, func() error {
		rec, err := s.pods.Record(req.Msg.Pod)
		if err != nil {
			return err
		}
		if req.Msg.Shim == nil {
			err = s.shims.leave(ctx, rec)
		} else {
			err = s.shims.set(ctx, rec, req.Msg.Shim, req.Msg.Renew)
		}
		if err != nil {
			return err
		}
		state, err = s.shims.state(ctx, req.Msg.Pod)
		return err
	})
	s.reportNow(ctx)
	return answer(&drydockv1.SetPodShimResponse{State: state}, err)
}

// set makes a pod's shim be as asked: a first one is added, one that runs takes up its new configuration.
func (s *shims) set(ctx context.Context, rec *pods.Record, shim *drydockv1.ShimSpec, renew bool) error {
	pod, has := rec.Spec.Name, rec.Spec.Shim
	if err := sidecar.Check(shim); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	if has.GetGeneration() > shim.GetGeneration() {
		return connect.NewError(connect.CodeFailedPrecondition,
			fmt.Errorf("generation %d of the shim of pod %s is out of date: it has %d", shim.GetGeneration(), pod, has.GetGeneration()))
	}
	next := proto.CloneOf(rec.Spec)
	next.Shim = shim
	file, err := sidecar.WriteRecord(s.pods.ShimVolume(pod), next)
	if err != nil {
		return err
	}
	if err := checkShim(ctx, file, shim); err != nil {
		return err
	}
	running, err := s.runs(ctx, rec)
	if err != nil {
		return err
	}
	if running && !proto.Equal(has, shim) {
		if err := s.reload(ctx, rec, next); err != nil {
			return err
		}
	}
	if running && !renew {
		return s.pods.Steer(ctx, pod)
	}
	return s.start(ctx, rec, next)
}

// prepare gives a pod that is to be made here the container of its shim.
func (s *shims) prepare(ctx context.Context, spec *drydockv1.PodSpec) error {
	if spec.Shim == nil || len(sidecar.In(spec)) > 0 {
		return nil
	}
	if err := sidecar.Check(spec.Shim); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	reference, digest, err := s.image(ctx)
	if err != nil {
		return err
	}
	sidecar.Add(spec, reference, digest)
	return nil
}

// image is the one that this agent's own program is in, made where the host does not have it.
func (s *shims) image(ctx context.Context) (reference, digest string, err error) {
	program, err := os.Executable()
	if err != nil {
		return "", "", err
	}
	return s.pods.ImportShim(ctx, program, version.String())
}

// checkShim finds everything that is wrong with the record before it comes near the pod.
func checkShim(ctx context.Context, file string, shim *drydockv1.ShimSpec) error {
	refuse := func(reason, remedy string) error {
		return &migrate.Refused{Reasons: []*drydockv1.Refusal{{Reason: reason, Remedy: remedy}}}
	}
	r, err := record.Load(file)
	if err == nil {
		defer r.Close()
		err = r.Check(ctx)
	}
	var problems strictyaml.Problems
	if errors.As(err, &problems) {
		refused := &migrate.Refused{}
		for _, p := range problems {
			refused.Reasons = append(refused.Reasons, &drydockv1.Refusal{Reason: fmt.Sprintf("record.yaml:%d:%d: %s: %s", p.Line, p.Column, p.Field, p.Reason), Remedy: p.Remedy})
		}
		return refused
	}
	if err != nil {
		return err
	}
	versions := []string{shim.GetVersion()}
	if sidecar.Gateway(shim) {
		versions = nil
	}
	for _, b := range shim.GetBackends() {
		versions = append(versions, b.GetVersion())
	}
	for _, v := range shim.GetClients() {
		versions = append(versions, v)
	}
	for _, v := range versions {
		if !slices.Contains(r.Versions, v) {
			return refuse(fmt.Sprintf("the record of service %s has no version %q", r.Service, v), "name one of the record's, or add it there")
		}
	}
	if r.Service != shim.GetService() {
		return refuse(fmt.Sprintf("the record is that of service %s, not of %s", r.Service, shim.GetService()), "name the record's service")
	}
	return nil
}

// runs tells whether the pod's newest shim runs.
func (s *shims) runs(ctx context.Context, rec *pods.Record) (bool, error) {
	names := sidecar.In(rec.Spec)
	if len(names) == 0 {
		return false, nil
	}
	status, err := s.pods.Status(ctx, rec.Spec.Name)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(status.Containers, func(c *drydockv1.ContainerStatus) bool {
		return c.Name == names[len(names)-1] && c.State == "running"
	}), nil
}

// reload has the shim that runs take up a configuration. Where it refuses, all stays as it was.
func (s *shims) reload(ctx context.Context, rec *pods.Record, next *drydockv1.PodSpec) error {
	pod, volume := rec.Spec.Name, s.pods.ShimVolume(rec.Spec.Name)
	if err := sidecar.Write(volume, next); err != nil {
		return err
	}
	client, done, err := s.control(pod)
	if err == nil {
		err = client.Reload(ctx)
		done()
	}
	var refused *process.RefusedError
	if errors.As(err, &refused) {
		err = &migrate.Refused{Reasons: []*drydockv1.Refusal{{Reason: fmt.Sprintf("the shim of pod %s goes on as it was: %s", pod, shimRefused(refused)), Remedy: "correct what it names"}}}
	}
	if err != nil {
		if rec.Spec.Shim != nil {
			err = errors.Join(err, sidecar.Write(volume, rec.Spec))
		}
		return err
	}
	rec.Spec.Shim = next.Shim
	return errors.Join(s.pods.Save(rec), sidecar.Tidy(volume, rec.Spec))
}

// start has a shim serve where none does, or a new one take over: its container has this agent's own program. One that runs hands its
// listening sockets over, and ends with its last connection. What does not come to serve is taken away again.
func (s *shims) start(ctx context.Context, rec *pods.Record, next *drydockv1.PodSpec) error {
	pod, before, begun := rec.Spec.Name, rec.Spec, time.Now()
	if err := sidecar.Write(s.pods.ShimVolume(pod), next); err != nil {
		return err
	}
	reference, digest, err := s.image(ctx)
	if err != nil {
		return err
	}
	name := sidecar.Add(next, reference, digest)
	rec.Spec = next
	err = s.pods.Save(rec)
	if err == nil {
		err = s.pods.AddContainer(ctx, rec, name)
	}
	if err == nil {
		err = s.awaitServing(ctx, pod, name, begun)
	}
	if err == nil {
		err = s.pods.Steer(ctx, pod)
	}
	if err != nil {
		rec.Spec.Shim = before.Shim
		return errors.Join(err, s.pods.RemoveContainer(ctx, rec, name), s.pods.Steer(ctx, pod))
	}
	return nil
}

// servesWithin is how long a shim may take until it serves: it runs its record's examples first, and translates its modules.
const servesWithin = 30 * time.Second

// awaitServing waits for a shim that was begun not before a time.
func (s *shims) awaitServing(ctx context.Context, pod, container string, begun time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, servesWithin)
	defer cancel()
	for {
		state, err := s.ask(ctx, pod)
		if err == nil && !state.Since.Before(begun) {
			return nil
		}
		if status, serr := s.pods.ContainerState(ctx, pod, container); serr == nil && status == "stopped" {
			var said bytes.Buffer
			_ = s.pods.Logs(ctx, pod, container, 5, false, &said) // only for the error
			return fmt.Errorf("the shim of pod %s ended before it served: %s", pod, strings.TrimSpace(said.String()))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the shim of pod %s does not serve: %w", pod, errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// leave has new connections go past a pod's shim, which goes when its last connection ends.
func (s *shims) leave(ctx context.Context, rec *pods.Record) error {
	if rec.Spec.Shim != nil {
		rec.Spec.Shim = nil
		if err := s.pods.Save(rec); err != nil {
			return err
		}
	}
	return s.pods.Steer(ctx, rec.Spec.Name)
}

// look after one container that is a shim, as the supervisor does after others.
func (s *shims) look(ctx context.Context, rec *pods.Record, c *drydockv1.ContainerStatus, restart func() error) error {
	names := sidecar.In(rec.Spec)
	pod, ended := rec.Spec.Name, c.State != "running" && c.State != "paused"
	switch newest := c.Name == names[len(names)-1]; {
	case !newest && !ended:
		return nil // it ends by itself
	case !newest, ended && rec.Spec.Shim == nil:
		s.log.Info("a shim has gone", "pod", pod, "container", c.Name)
		return s.pods.RemoveContainer(ctx, rec, c.Name)
	case ended:
		return restart()
	case rec.Spec.Shim == nil:
		state, err := s.ask(ctx, pod)
		if err != nil || state.Connections > 0 {
			return err
		}
		return s.pods.RemoveContainer(ctx, rec, c.Name)
	}
	return s.steer(ctx, pod, c.Pid)
}

// steer leads connections to a process that this agent has not led them to yet.
func (s *shims) steer(ctx context.Context, pod string, pid uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.steered[pod] == pid {
		return nil
	}
	if err := s.pods.Steer(ctx, pod); err != nil {
		return err
	}
	s.steered[pod] = pid
	return nil
}
