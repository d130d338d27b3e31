package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/pki"
	"drydock/internal/version"
	"drydock/orchestrator/store"
)

// Report takes in what a host says, and answers with the owners of all pods that concern it.
func (s coordinationService) Report(ctx context.Context, request *connect.Request[drydockv1.ReportRequest]) (*connect.Response[drydockv1.ReportResponse], error) {
	m := request.Msg
	r, err := s.c.leading(ctx)
	if err != nil {
		return nil, err
	}
	known := r.fleet.Load()
	h, err := s.c.reporter(ctx, known)
	if err != nil {
		return nil, err
	}
	if m.GetBootId() == "" {
		return nil, invalid("report of host %s has no boot id", h.name())
	}
	if err := speaks("report of host "+h.name(), h.name(), m.GetInfo().GetApi()); err != nil {
		return nil, err
	}
	kept := s.c.storeStatus(ctx, h, m)
	if err := s.c.takeReport(ctx, known, h, m, kept); err != nil {
		return nil, err
	}
	response := &drydockv1.ReportResponse{
		LeadershipRevision: r.term.Revision(), Interval: durationpb.New(s.c.config.Timings.ReportInterval), Api: version.API,
		WantStatus: m.GetStatusDigest() != kept, Network: s.c.toldNetwork(known.networkRecord()),
	}
	if response.Owners, err = s.c.ownersFor(ctx, known, h.name(), m.GetPods()); err != nil {
		return nil, err
	}
	known.tellPeers(h.name(), m.GetPeersRevision(), response)
	return connect.NewResponse(response), nil
}

// reporter is the host that a report came from, as the leader knows it.
func (c *Controller) reporter(ctx context.Context, known *fleet) (host, error) {
	id, _ := pki.FromContext(ctx)
	if item, ok := known.host(id.Name); ok && id.Kind == pki.Host {
		return host{record: item.Value, revision: item.Revision, report: known.report(id.Name)}, nil
	}
	return c.caller(ctx)
}

// keepBoots is how many past boots of a host are remembered.
const keepBoots = 32

// keepReport is how old what the store has of a host that says nothing new may be: how long ago it was seen is then known that
// well to the next leader.
const keepReport = 5 * time.Minute

// takeReport takes in what a host says, and keeps it in the store where it is news. kept is the digest of its status that the
// store has.
func (c *Controller) takeReport(ctx context.Context, known *fleet, h host, m *drydockv1.ReportRequest, kept string) error {
	if slices.Contains(h.record.GetPastBootIds(), m.GetBootId()) {
		return refuse("report of host "+h.name(), because("boot "+m.GetBootId()+" is over: a later one has reported", "drop the report"))
	}
	report := &drydockv1.HostReport{
		BootId: m.GetBootId(), Received: timestamppb.New(c.now()), Info: m.GetInfo(),
		Pods: m.GetPods(), Images: m.GetImages(), Migrations: m.GetMigrations(), Summary: m.GetSummary(), StatusDigest: kept,
	}
	before := known.heard(h.name(), report)
	stored := c.seen.kept(h.name())
	if c.now().Sub(stored) > keepReport || !sayTheSame(before, report) {
		if _, err := c.store.Txn().Put(reportKey(h.name()), report).Commit(ctx); err != nil {
			known.unheard(h.name(), before)
			return err
		}
		c.seen.keep(h.name(), c.now())
	}
	c.seen.see(h.name())
	return c.noteBoot(ctx, h, m)
}

// noteBoot enters the boot and the address that a host reports from, where they are others than before.
func (c *Controller) noteBoot(ctx context.Context, h host, m *drydockv1.ReportRequest) error {
	address := m.GetAddress()
	if address == "" {
		address = h.record.GetAddress()
	}
	if h.record.GetBootId() == m.GetBootId() && h.record.GetAddress() == address {
		return nil
	}
	_, err := store.Update(ctx, c.store, hostKey(h.name()), func(item store.Item[*drydockv1.HostRecord]) error {
		switch {
		case item.Revision == 0:
			return connect.NewError(connect.CodePermissionDenied, fmt.Errorf("host %s was removed", h.name()))
		case item.Value.GetBootId() == m.GetBootId() && item.Value.GetAddress() == address:
			return store.ErrUnchanged
		case item.Value.GetBootId() != m.GetBootId():
			c.log.Info("host booted", "host", h.name(), "boot", m.GetBootId())
			item.Value.PastBootIds = append(item.Value.PastBootIds, item.Value.GetBootId())
			item.Value.PastBootIds = item.Value.PastBootIds[max(len(item.Value.PastBootIds)-keepBoots, 0):]
		}
		item.Value.BootId, item.Value.Address = m.GetBootId(), address
		return nil
	})
	return err
}

// sayTheSame says whether a host has nothing new to say but what changes all the time: how much is free, how busy it is, and for
// how long it runs.
func sayTheSame(a, b *drydockv1.HostReport) bool {
	if a == nil || a.GetBootId() != b.GetBootId() || a.GetStatusDigest() != b.GetStatusDigest() ||
		!slices.Equal(a.GetMigrations(), b.GetMigrations()) || !slices.EqualFunc(a.GetImages(), b.GetImages(), equal) {
		return false
	}
	return slices.EqualFunc(a.GetPods(), b.GetPods(), samePod) && sameInfo(a.GetInfo(), b.GetInfo()) && sameSummary(a.GetSummary(), b.GetSummary())
}

func equal[M proto.Message](a, b M) bool { return proto.Equal(a, b) }

func samePod(a, b *drydockv1.Pod) bool {
	if a.GetPhase() != b.GetPhase() || a.GetEpoch() != b.GetEpoch() || a.GetMessage() != b.GetMessage() ||
		a.GetMigration() != b.GetMigration() || a.GetDestination() != b.GetDestination() || len(a.GetContainers()) != len(b.GetContainers()) {
		return false
	}
	for i, c := range a.GetContainers() {
		d := b.GetContainers()[i]
		if c.GetName() != d.GetName() || c.GetState() != d.GetState() || c.GetPid() != d.GetPid() || c.GetRestarts() != d.GetRestarts() ||
			c.GetExitCode() != d.GetExitCode() || c.GetHealthMessage() != d.GetHealthMessage() || !sameHealth(c.Healthy, d.Healthy) {
			return false
		}
	}
	return proto.Equal(a.GetSpec(), b.GetSpec())
}

func sameHealth(a, b *bool) bool { return a == b || a != nil && b != nil && *a == *b }

// sameInfo compares what is left when what changes all the time is taken out.
func sameInfo(a, b *drydockv1.HostInfo) bool { return proto.Equal(steady(a), steady(b)) }

// steady is a host's description without what changes all the time. It shares everything else with info.
func steady(info *drydockv1.HostInfo) *drydockv1.HostInfo {
	if info == nil {
		return nil
	}
	return &drydockv1.HostInfo{
		Kernel: info.Kernel, Os: info.Os, Arch: info.Arch, CpuModel: info.CpuModel, CpuFeatures: info.CpuFeatures, Cpus: info.Cpus,
		MemoryBytes: info.MemoryBytes, AgentVersion: info.AgentVersion, Api: info.Api, ContainerdVersion: info.ContainerdVersion,
		RuncVersion: info.RuncVersion, CriuVersion: info.CriuVersion, CriuFeatures: info.CriuFeatures, Problems: info.Problems,
		Simulated: info.Simulated, CgroupVersion: info.CgroupVersion, Network: info.Network, NetworkReason: info.NetworkReason,
		VxlanProblem: info.VxlanProblem, Labels: info.Labels, Proof: info.Proof,
	}
}

// sameSummary is about the words and numbers. What the digest of the status covers was compared before.
func sameSummary(a, b *drydockv1.StatusSummary) bool {
	return (a == nil) == (b == nil) && a.GetUpdates() == b.GetUpdates() && a.GetSecurityUpdates() == b.GetSecurityUpdates() &&
		a.GetBlockedUpdates() == b.GetBlockedUpdates() && a.GetRebootRequired() == b.GetRebootRequired() &&
		slices.Equal(a.GetRebootReasons(), b.GetRebootReasons()) && a.GetStaleProcesses() == b.GetStaleProcesses() &&
		a.GetStaleInPods() == b.GetStaleInPods() && slices.EqualFunc(a.GetProblems(), b.GetProblems(), equal)
}

// ownersFor are the records of all pods that concern a host or that it has reported. They can be a moment old: each says its
// revision.
func (c *Controller) ownersFor(ctx context.Context, known *fleet, host string, reported []*drydockv1.Pod) ([]*drydockv1.OwnerRecord, error) {
	wanted := known.ownersOf(host, reported)
	for _, pod := range reported {
		name := pod.GetSpec().GetName()
		if _, ok := wanted[name]; ok {
			continue
		}
		// One that is not known may have been made just now, or be one that was removed long ago.
		record, err := c.ownerOf(ctx, name)
		if err != nil {
			return nil, err
		}
		wanted[name] = record
	}
	var wire []*drydockv1.OwnerRecord
	for _, name := range sortedKeys(wanted) {
		record, err := ownerWire(wanted[name])
		if err != nil {
			return nil, err
		}
		wire = append(wire, record)
	}
	return wire, nil
}
