package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/shim/chain"
	"drydock/shim/proxy"
)

// fakeShims has a shim in the pod redis; no call comes to that of `quiet`.
type fakeShims struct {
	drydockv1connect.UnimplementedShimServiceHandler
	*fakeController
}

func shimIn(pod string) *v1.ShimState {
	return &v1.ShimState{
		Pod: pod, Host: "h1", State: "serving", Generation: 3, Service: "greeter", Program: "v1.2.3", Since: ago(time.Hour),
		Versions: []string{"v1", "v2"}, Version: "v2", Server: "10.77.128.5:8080", Listen: []string{"127.0.0.1:15080"}, Interception: "bpf",
		Connections: 4, Draining: 1, Spliced: 2, Unknown: 1, Faults: 1,
		Calls: []*v1.ShimCalls{{Client: "v1", Server: "v2", Passed: 1, Translated: 20, Disallowed: 2, Untranslatable: 1}},
		Hops:  []*v1.ShimHop{{From: "v1", To: "v2", Times: 20, Total: durationpb.New(100 * time.Microsecond)}},
	}
}

func (f fakeShims) SetPodShim(_ context.Context, r *connect.Request[v1.SetPodShimRequest]) (*connect.Response[v1.SetPodShimResponse], error) {
	if shim := r.Msg.Shim; shim != nil {
		shim.Record = fmt.Appendf(nil, "%d bytes", len(shim.Record))
	}
	f.record("SetPodShim", r.Msg)
	state := shimIn(r.Msg.Pod)
	if r.Msg.Shim == nil {
		state = &v1.ShimState{Pod: r.Msg.Pod, Host: "h1", State: "none"}
	}
	return answer(&v1.SetPodShimResponse{State: state}, f.fault("pod", r.Msg.Pod))
}

func (f fakeShims) GetPodShim(_ context.Context, r *connect.Request[v1.GetPodShimRequest]) (*connect.Response[v1.GetPodShimResponse], error) {
	f.record("GetPodShim", r.Msg)
	return answer(&v1.GetPodShimResponse{State: shimIn(r.Msg.Pod)}, f.fault("pod", r.Msg.Pod))
}

func (f fakeShims) ListPodShims(_ context.Context, r *connect.Request[v1.ListPodShimsRequest]) (*connect.Response[v1.ListPodShimsResponse], error) {
	f.record("ListPodShims", r.Msg)
	return answer(&v1.ListPodShimsResponse{Shims: []*v1.ShimState{
		shimIn("redis"), {Pod: "web", Host: "h3", State: "unknown", Service: "greeter", Problem: "host h3 is unreachable"},
	}}, nil)
}

func (f fakeShims) TracePodShim(_ context.Context, r *connect.Request[v1.TracePodShimRequest]) (*connect.Response[v1.TracePodShimResponse], error) {
	f.record("TracePodShim", r.Msg)
	if r.Msg.Pod == "quiet" {
		return answer(&v1.TracePodShimResponse{}, nil)
	}
	data, err := json.Marshal(proxy.Trace{
		Method: "POST", Path: "/greet", Client: "v1", Server: "v2", Status: 200, Took: time.Millisecond,
		Passages: []chain.Passage{{
			From: "v1", To: "v2", Part: "request", Took: 5 * time.Microsecond,
			Before: chain.View{Method: "POST", Path: "/greet", Body: json.RawMessage(`{"name":"Ada"}`)},
			After:  chain.View{Method: "POST", Path: "/greet", Body: json.RawMessage(`{"first":"Ada"}`)},
		}},
	})
	if err != nil {
		return nil, err
	}
	return answer(&v1.TracePodShimResponse{Trace: data}, f.fault("pod", r.Msg.Pod))
}
