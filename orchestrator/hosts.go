package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/orchestrator/rollout"
	"drydock/orchestrator/store"
)

// The states of a host, as operators see them.
const (
	hostReady       = "ready"
	hostCordoned    = "cordoned"
	hostUnreachable = "unreachable"
	hostDead        = "dead"
)

// host is what the store and the present moment say of one host.
type host struct {
	record   *drydockv1.HostRecord
	revision int64
	report   *drydockv1.HostReport
	state    string
	message  string
	// apart: no other host has proven that pods can move between it and this one. Only place asks.
	apart bool
}

func (h host) name() string { return h.record.GetName() }

// answers says whether the host can be asked to do something.
func (h host) answers() bool { return h.state == hostReady || h.state == hostCordoned }

func (h host) peer() *drydockv1.Peer {
	return &drydockv1.Peer{
		Name: h.record.GetName(), Address: h.record.GetAddress(),
		BootId: h.record.GetBootId(), DeadBootId: h.record.GetDeadBootId(),
	}
}

// isOver says whether an operator's word that the host is dead is about this boot too: it was given for it, or for a later one.
func (h host) isOver(boot string) bool {
	dead := h.record.GetDeadBootId()
	return dead != "" && (dead == boot || dead == h.record.GetBootId() && slices.Contains(h.record.GetPastBootIds(), boot))
}

// why is the reason that nothing can be placed on the host or moved to it, or nil.
func (h host) why() *drydockv1.Refusal {
	name := h.name()
	switch h.state {
	case hostDead:
		return because("host "+name+" is dead", "start it again, or choose another host")
	case hostUnreachable:
		return because("host "+name+" does not answer: "+h.message, "bring its agent back, or choose another host")
	case hostCordoned:
		return because("host "+name+" is cordoned: "+h.message, "run `drydock host resume "+name+"`, or choose another host")
	}
	if problems := h.report.GetInfo().GetProblems(); len(problems) > 0 {
		return because("host "+name+" cannot take part: "+problems[0].GetReason(), problems[0].GetRemedy())
	}
	return nil
}

// whyNotFor is why, for a rollout that may have cordoned the host itself. An operator's own cordon holds for the operator too.
func (h host) whyNotFor(by string) *drydockv1.Refusal {
	if h.state == hostCordoned && strings.HasPrefix(by, rollout.OwnerPrefix) && h.record.GetCordon().GetOwner() == by {
		h.state = hostReady
	}
	return h.why()
}

// hosts reads all hosts, by name.
func (c *Controller) hosts(ctx context.Context) (map[string]host, error) {
	records, err := store.List[drydockv1.HostRecord](ctx, c.store, keyHosts)
	if err != nil {
		return nil, err
	}
	reports, err := c.reports(ctx)
	if err != nil {
		return nil, err
	}
	hosts := make(map[string]host, len(records))
	for _, item := range records {
		hosts[item.Value.GetName()] = host{record: item.Value, revision: item.Revision}
	}
	for name, h := range hosts {
		h.report = reports(name)
		h.state, h.message = c.stateOf(h)
		hosts[name] = h
	}
	return hosts, nil
}

// reports are what the hosts have said last: to this controller where it leads, else what is kept of it.
func (c *Controller) reports(ctx context.Context) (func(host string) *drydockv1.HostReport, error) {
	if r, _ := c.reigning(); r != nil {
		return r.fleet.Load().report, nil
	}
	items, err := store.List[drydockv1.HostReport](ctx, c.store, keyReports)
	known := make(map[string]*drydockv1.HostReport, len(items))
	for _, item := range items {
		known[strings.TrimPrefix(item.Key, keyReports)] = item.Value
	}
	return func(host string) *drydockv1.HostReport { return known[host] }, err
}

// host reads one, or says that there is none.
func (c *Controller) host(ctx context.Context, name string) (host, error) {
	item, err := store.Get[drydockv1.HostRecord](ctx, c.store, hostKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return host{}, noHost(name)
	} else if err != nil {
		return host{}, err
	}
	h := host{record: item.Value, revision: item.Revision}
	if r, _ := c.reigning(); r != nil {
		h.report = r.fleet.Load().report(name)
	} else if report, err := store.Get[drydockv1.HostReport](ctx, c.store, reportKey(name)); err == nil {
		h.report = report.Value
	} else if !errors.Is(err, store.ErrNotFound) {
		return host{}, err
	}
	h.state, h.message = c.stateOf(h)
	return h, nil
}

func (c *Controller) stateOf(h host) (state, message string) {
	record := h.record
	if record.GetDeadBootId() != "" && record.GetDeadBootId() == record.GetBootId() {
		return hostDead, "confirmed dead by an operator"
	}
	if silent := c.seen.silence(record.GetName()); silent > 0 {
		return hostUnreachable, fmt.Sprintf("silent for %s", silent.Round(time.Second))
	}
	if cordon := record.GetCordon(); cordon != nil {
		message := fmt.Sprintf("by %s since %s", cordon.GetOwner(), cordon.GetSince().AsTime().UTC().Format(time.RFC3339))
		if cordon.GetReason() != "" {
			message += ": " + cordon.GetReason()
		}
		return hostCordoned, message
	}
	if problems := h.report.GetInfo().GetProblems(); len(problems) > 0 {
		return hostReady, problems[0].GetReason() + ": " + problems[0].GetRemedy()
	}
	return hostReady, ""
}

// agentOf is the agent of a host that is known.
func (c *Controller) agentOf(ctx context.Context, name string) (drydockv1connect.AgentServiceClient, error) {
	h, err := c.host(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.agents.at(h.record)
}

// answeringAgent is the agent of a host that can be asked to do something; else the refusal of what.
func (c *Controller) answeringAgent(ctx context.Context, what, name string) (drydockv1connect.AgentServiceClient, error) {
	h, err := c.host(ctx, name)
	if err != nil {
		return nil, err
	}
	if !h.answers() {
		return nil, refuse(what, because(fmt.Sprintf("host %s is %s: %s", name, h.state, h.message),
			"bring its agent back, or run `drydock host confirm-dead "+name+"` once it is certain that it is off"))
	}
	return c.agents.at(h.record)
}

// message is the host as operators see it. pods are the names of those that it owns.
func (h host) wire(seen time.Time, pods []string) *drydockv1.Host {
	slices.Sort(pods)
	wire := &drydockv1.Host{
		Name: h.name(), Address: h.record.GetAddress(), BootId: h.record.GetBootId(),
		State: h.state, Message: h.message, Info: proto.CloneOf(h.report.GetInfo()), Pods: pods,
		Summary: h.report.GetSummary(),
	}
	if received := h.report.GetReceived(); received != nil {
		wire.LastSeen = received
	} else if !seen.IsZero() {
		wire.LastSeen = timestamppb.New(seen)
	}
	return wire
}

// sightings is when this controller last saw a report of each host, since it leads. How long a host is silent goes by the time
// that passes here: nobody falls silent because the clock is set.
type sightings struct {
	mu      sync.Mutex
	started time.Time
	// begun and last have readings of the monotonic clock.
	begun time.Time
	last  map[string]time.Time
	// stored is when a report was last kept in the store.
	stored  map[string]time.Time
	patient time.Duration
}

func newSightings(started time.Time, patient time.Duration) *sightings {
	return &sightings{started: started, begun: time.Now(), last: make(map[string]time.Time), stored: make(map[string]time.Time), patient: patient}
}

// begin gives every host time again: what others were told is not known here.
func (s *sightings) begin(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started, s.begun = at, time.Now()
	clear(s.last)
	clear(s.stored)
}

// keep notes that a host's report was kept.
func (s *sightings) keep(host string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored[host] = at
}

// kept is when a report of a host was last kept. For those that were not under this leader it is a moment of the last keepReport
// before it began, another for each, so that a large fleet's are not all due at once.
func (s *sightings) kept(host string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.stored[host]; ok {
		return at
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(host)) // never fails
	return s.started.Add(-keepReport * time.Duration(sum.Sum32()%1000) / 1000)
}

func (s *sightings) see(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[host] = time.Now()
}

// since is from when on hosts are watched.
func (s *sightings) since() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// silence is how long a host has been silent, or 0 where that is no longer than may be.
func (s *sightings) silence(host string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.last[host]
	if !ok {
		last = s.begun
	}
	if silent := time.Since(last); silent > s.patient {
		return silent
	}
	return 0
}
