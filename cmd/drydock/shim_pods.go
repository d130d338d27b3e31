package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "drydock/api/drydock/v1"
	"drydock/shim/proxy"
)

// listPodShims lists the shims in pods.
func (a *app) listPodShims(ctx context.Context) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	res, err := ask(ctx, c, c.ListPodShims, &v1.ListPodShimsRequest{})
	if err != nil {
		return err
	}
	return a.print(messages(res.Shims), func(t *table) {
		t.row("POD", "HOST", "SERVICE", "STATE", "SPEAKS", "CONNECTIONS", "TRANSLATED", "REFUSED")
		for _, s := range res.Shims {
			var translated, refused uint64
			for _, n := range s.Calls {
				translated, refused = translated+n.Translated, refused+n.Disallowed+n.Untranslatable
			}
			t.row(s.Pod, s.Host, s.Service, s.State, s.Version, fmt.Sprint(s.Connections), fmt.Sprint(translated), fmt.Sprint(refused))
		}
	})
}

// showPodShim shows the shim of a pod.
func (a *app) showPodShim(ctx context.Context, pod string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	res, err := ask(ctx, c, c.GetPodShim, &v1.GetPodShimRequest{Pod: pod})
	if err != nil {
		return err
	}
	return a.print(message{res.State}, func(t *table) { podShimTable(t, res.State) })
}

func podShimTable(t *table, s *v1.ShimState) {
	t.field("Pod", s.Pod)
	t.field("Host", s.Host)
	t.field("State", s.State)
	if s.Problem != "" {
		t.field("Problem", s.Problem)
	}
	if s.Since == nil {
		return
	}
	t.field("Service", s.Service+" ("+strings.Join(s.Versions, ", ")+")")
	t.field("Server", s.Server+" speaks "+s.Version)
	t.field("Program", "drydock "+s.Program)
	t.field("Generation", fmt.Sprint(s.Generation))
	t.field("Listens", strings.Join(s.Listen, ", "))
	if s.Interception != "" {
		t.field("Interception", s.Interception)
	}
	t.field("Connections", fmt.Sprintf("%d now, %d of an older process, %d spliced ever", s.Connections, s.Draining, s.Spliced))
	if s.Unknown > 0 {
		t.field("Unknown version", fmt.Sprintf("%d calls refused", s.Unknown))
	}
	if s.Faults > 0 {
		t.field("Module faults", fmt.Sprintf("%d connections ended", s.Faults))
	}
	podShimSections(t, s)
}

func podShimSections(t *table, s *v1.ShimState) {
	if len(s.Backends) > 1 {
		t.section("", "BACKEND", "ADDRESS", "SPEAKS", "HEALTHY", "CALLS")
		for _, b := range s.Backends {
			t.row(b.Backend.GetName(), b.Backend.GetAddress(), b.Backend.GetVersion(), map[bool]string{true: "yes", false: "no"}[b.Healthy], fmt.Sprint(b.Calls))
		}
	}
	if len(s.Calls) > 0 {
		t.section("", "CLIENT", "SERVER", "TRANSLATED", "PASSED", "DISALLOWED", "UNTRANSLATABLE")
		for _, n := range s.Calls {
			t.row(n.Client, n.Server, fmt.Sprint(n.Translated), fmt.Sprint(n.Passed), fmt.Sprint(n.Disallowed), fmt.Sprint(n.Untranslatable))
		}
	}
	if len(s.Hops) > 0 {
		t.section("", "TRANSLATOR", "TIMES", "MEAN")
		for _, h := range s.Hops {
			mean := h.Total.AsDuration() / time.Duration(max(h.Times, 1))
			t.row(h.From+" > "+h.To, fmt.Sprint(h.Times), mean.Round(100*time.Nanosecond).String())
		}
	}
}

// tracePodShim shows the next call through the shim of a pod.
func (a *app) tracePodShim(cmd *cobra.Command, pod, prefix string, longest time.Duration) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	res, err := wait(cmd.Context(), c.TracePodShim, &v1.TracePodShimRequest{Pod: pod, Path: prefix, Wait: durationpb.New(longest)})
	if err != nil {
		return err
	}
	if len(res.Trace) == 0 {
		return noCall(pod, fmt.Sprintf("no call came within %s", longest))
	}
	var trace proxy.Trace
	if err := json.Unmarshal(res.Trace, &trace); err != nil {
		return fmt.Errorf("trace of the shim of pod %s: %w", pod, err)
	}
	return a.print(trace, func(t *table) { showTrace(t, trace) })
}

func noCall(shim, text string) error {
	return &failure{status: statusFailed, message: fmt.Sprintf("shim %s: %s", shim, text),
		remedies: []string{"make a call, or wait longer with --wait; connections of the server's own version may be spliced, unread"}}
}
