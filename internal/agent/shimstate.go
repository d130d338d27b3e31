package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods/sidecar"
	"drydock/shim/process"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// askShim is how long a shim may take to answer. While it is asked its pod does not move: CRIU cannot carry a connection to this
// agent over.
const askShim = 2 * time.Second

// control reaches the control socket of a pod's shim. Only what the shim itself could put there is in the way: links are not followed.
func (s *shims) control(pod string) (process.Client, func(), error) {
	return s.socket(pod, sidecar.Socket)
}

func (s *shims) socket(pod, name string) (process.Client, func(), error) {
	fail := func(err error) (process.Client, func(), error) {
		return process.Client{}, nil, fmt.Errorf("control socket of the shim of pod %s: %w", pod, err)
	}
	volume, err := unix.Open(s.pods.ShimVolume(pod), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(volume)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	socket, err := unix.Openat2(volume, name, how)
	if err != nil {
		return fail(err)
	}
	// A path of a socket has room for 107 bytes, which this one always keeps within.
	return process.Client{Socket: fmt.Sprintf("/proc/self/fd/%d", socket)}, func() { _ = unix.Close(socket) }, nil
}

// ask asks a pod's newest shim how it is.
func (s *shims) ask(ctx context.Context, pod string) (process.State, error) {
	client, done, err := s.control(pod)
	if err != nil {
		return process.State{}, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, askShim)
	defer cancel()
	return client.State(ctx)
}

// GetPodShim implements AgentService.
func (s *agentServer) GetPodShim(ctx context.Context, req *connect.Request[drydockv1.GetPodShimRequest]) (*connect.Response[drydockv1.GetPodShimResponse], error) {
	var state *drydockv1.ShimState
	err := s.engine.Alone(ctx, req.Msg.Pod, func() (err error) {
		state, err = s.shims.state(ctx, req.Msg.Pod)
		return err
	})
	return answer(&drydockv1.GetPodShimResponse{State: state}, err)
}

// state is how a pod's shim is now.
func (s *shims) state(ctx context.Context, pod string) (*drydockv1.ShimState, error) {
	rec, err := s.pods.Record(pod)
	if err != nil {
		return nil, err
	}
	shim := rec.Spec.Shim
	out := &drydockv1.ShimState{Pod: pod, Host: s.here.Host, State: "none", Generation: shim.GetGeneration(), Service: shim.GetService()}
	if len(sidecar.In(rec.Spec)) == 0 {
		return out, nil
	}
	if s.pods.Steers(pod) {
		out.Interception = "bpf"
	}
	now, err := s.ask(ctx, pod)
	if err != nil {
		out.State, out.Problem = "starting", err.Error()
		return out, nil
	}
	out.State = "serving"
	if shim == nil {
		out.State = "leaving"
	}
	fillState(out, now)
	s.addDraining(ctx, out)
	return out, nil
}

func fillState(out *drydockv1.ShimState, now process.State) {
	out.Service, out.Program, out.Since = now.Service, now.Program, timestamppb.New(now.Since)
	out.Versions, out.Version, out.Server, out.Listen = now.Versions, now.Version, now.Server, now.Listen
	out.Connections, out.Spliced, out.Unknown, out.Faults, out.Changes = int64(now.Connections), now.Spliced, now.Unknown, now.Faults, now.Changes
	for _, b := range now.Backends {
		out.Backends = append(out.Backends, &drydockv1.ShimBackendState{
			Backend: &drydockv1.ShimBackend{Name: b.Name, Address: b.Address, Version: b.Version, Hold: b.Hold}, Healthy: b.Healthy, Calls: b.Calls,
		})
	}
	for _, n := range now.Calls {
		out.Calls = append(out.Calls, &drydockv1.ShimCalls{
			Client: n.Client, Server: n.Server, Passed: n.Passed, Translated: n.Translated, Disallowed: n.Disallowed, Untranslatable: n.Untranslatable,
		})
	}
	for _, h := range now.Hops {
		out.Hops = append(out.Hops, &drydockv1.ShimHop{From: h.From, To: h.To, Times: h.Times, Total: durationpb.New(h.Total)})
	}
}

// addDraining adds what older processes of a pod's shim serve to its end.
func (s *shims) addDraining(ctx context.Context, out *drydockv1.ShimState) {
	pod := out.Pod
	others, _ := filepath.Glob(filepath.Join(s.pods.ShimVolume(pod), filepath.Dir(sidecar.Socket), "*-draining-*.sock"))
	for _, path := range others {
		client, done, err := s.socket(pod, filepath.Join(filepath.Dir(sidecar.Socket), filepath.Base(path)))
		if err != nil {
			continue // it has ended meanwhile
		}
		ctx, cancel := context.WithTimeout(ctx, askShim)
		if state, err := client.State(ctx); err == nil {
			addOlder(out, state)
		}
		cancel()
		done()
	}
}

// addOlder counts the calls that an older process has under way too: who waits for the end of a backend's waits for these as well.
func addOlder(out *drydockv1.ShimState, older process.State) {
	out.Draining += int64(older.Connections)
	for _, b := range out.Backends {
		for _, o := range older.Backends {
			if o.Address == b.Backend.Address {
				b.Calls += o.Calls
			}
		}
	}
}

// traceEvery is how often a shim is asked whether its call has come.
const traceEvery = 200 * time.Millisecond

// TracePodShim implements AgentService. The pod can move between two looks; then nobody here knows what becomes of the call.
func (s *agentServer) TracePodShim(ctx context.Context, req *connect.Request[drydockv1.TracePodShimRequest]) (*connect.Response[drydockv1.TracePodShimResponse], error) {
	var id string
	err := s.shims.with(ctx, req.Msg.Pod, func(ctx context.Context, c process.Client) (err error) {
		id, err = c.BeginTrace(ctx, req.Msg.Path, req.Msg.Wait.AsDuration())
		return err
	})
	out := &drydockv1.TracePodShimResponse{}
	for err == nil && out.Trace == nil {
		select {
		case <-ctx.Done():
			return nil, failed(ctx.Err())
		case <-time.After(traceEvery):
		}
		err = s.shims.with(ctx, req.Msg.Pod, func(ctx context.Context, c process.Client) error {
			trace, err := c.Begun(ctx, id)
			if err != nil || trace == nil {
				return err
			}
			out.Trace, err = json.Marshal(trace)
			return err
		})
	}
	var refused *process.RefusedError
	if errors.As(err, &refused) && refused.Status == http.StatusGatewayTimeout {
		err = nil
	}
	return answer(out, err)
}

// with reaches a pod's shim while nobody acts on the pod.
func (s *shims) with(ctx context.Context, pod string, do func(context.Context, process.Client) error) error {
	return s.engine.Alone(ctx, pod, func() error {
		client, done, err := s.control(pod)
		if err != nil {
			return connect.NewError(connect.CodeFailedPrecondition, err)
		}
		defer done()
		ctx, cancel := context.WithTimeout(ctx, askShim)
		defer cancel()
		return do(ctx, client)
	})
}

// shimRefused is what a shim said, in one line.
func shimRefused(err *process.RefusedError) string { return strings.ReplaceAll(err.Text, "\n", "; ") }
