package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/pki"
	"drydock/internal/version"
)

// atOnce is how many agents join at a time.
const atOnce = 64

// agent is a simulated one.
type agent struct {
	name     string
	client   drydockv1connect.CoordinationServiceClient
	status   *drydockv1.HostStatus
	revision int64
	peers    int
}

// join has all agents join, each with a token of its own.
func join(ctx context.Context, c *controller, work string, o options) ([]*agent, error) {
	client, base, err := pki.Client("unix://"+c.cfg.Socket, nil, nil)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	admin := drydockv1connect.NewControllerServiceClient(client, base)
	if err := ready(ctx, admin); err != nil {
		return nil, err
	}
	fleet := make([]*agent, o.agents)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range fleet {
		group.Go(func() (err error) {
			fleet[i], err = newAgent(ctx, admin, c, filepath.Join(work, fmt.Sprint(i)), i)
			return err
		})
	}
	return fleet, group.Wait()
}

// ready waits until the controller leads.
func ready(ctx context.Context, admin drydockv1connect.ControllerServiceClient) error {
	for {
		_, err := admin.ListPods(ctx, connect.NewRequest(&drydockv1.ListPodsRequest{}))
		if err == nil || connect.CodeOf(err) != connect.CodeUnavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func newAgent(ctx context.Context, admin drydockv1connect.ControllerServiceClient, c *controller, dir string, i int) (*agent, error) {
	a := &agent{name: fmt.Sprintf("host-%05d", i), status: someStatus(i)}
	keeper, err := a.certificate(ctx, admin, c, dir, i)
	for range joinTries {
		if !errors.Is(err, pki.ErrNoAnswer) {
			break
		}
		keeper, err = a.certificate(ctx, admin, c, dir, i)
	}
	if err != nil {
		return nil, err
	}
	// A client of its own is a connection of its own.
	client, base, err := pki.Client("https://"+c.cfg.Listen, keeper, pki.ExpectKind(pki.Controller))
	if err != nil {
		return nil, err
	}
	a.client = drydockv1connect.NewCoordinationServiceClient(client, base)
	// The first report makes the connection, and brings the other hosts and the whole status across: that is not measured.
	return a, a.report(ctx, i)
}

// joinTries is how often an agent tries again whose connection was lost on a busy machine.
const joinTries = 5

// certificate joins with a new token.
func (a *agent) certificate(ctx context.Context, admin drydockv1connect.ControllerServiceClient, c *controller, dir string, i int) (*pki.Keeper, error) {
	token, err := admin.CreateJoinToken(ctx, connect.NewRequest(&drydockv1.CreateJoinTokenRequest{Host: a.name}))
	if err != nil {
		return nil, err
	}
	keeper, _, err := pki.Join(ctx, pki.JoinRequest{
		Controllers: []string{"https://" + c.cfg.Listen}, Token: token.Msg.GetToken(), Name: a.name, Address: a.address(i),
		BootID: a.boot(), API: version.API, Dir: dir,
	}, pki.SystemClock{})
	return keeper, err
}

// address is one where nothing answers: what the controller asks of hosts by itself, to prove the network between them, fails.
func (a *agent) address(i int) string { return fmt.Sprintf("127.%d.%d.1:7441", 1+i/250, 1+i%250) }

func (a *agent) boot() string { return a.name + "-boot" }

// report is one, as an agent on a host without pods sends it.
func (a *agent) report(ctx context.Context, i int) error {
	began := time.Now()
	request := &drydockv1.ReportRequest{
		BootId: a.boot(), Address: a.address(i), Info: someInfo(began), Summary: someSummary(began), Status: a.status,
		StatusDigest: "digest of " + a.name, PeersRevision: a.revision,
	}
	response, err := a.client.Report(ctx, connect.NewRequest(request))
	if err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	said := response.Msg
	if !said.GetPeersChanged() {
		a.peers = 0
	}
	a.peers += len(said.GetPeers()) - len(said.GetPeersRemoved())
	a.revision = said.GetPeersRevision()
	return nil
}

// tally is what the agents have seen.
type tally struct {
	counting atomic.Bool
	failed   atomic.Int64
	first    atomic.Pointer[error]

	mu     sync.Mutex
	delays []time.Duration
}

// loop reports again and again, at a moment of the interval that is each agent's own. A report that is late is late for the
// moment that it was due at, so that a controller which cannot keep up is not spared.
func (a *agent) loop(ctx context.Context, i int, o options, t *tally) {
	due := time.Now().Add(rand.N(o.interval))
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		err := a.report(ctx, i)
		delay := time.Since(due)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.first.CompareAndSwap(nil, &err)
			t.failed.Add(1)
		} else if t.counting.Load() {
			t.mu.Lock()
			t.delays = append(t.delays, delay)
			t.mu.Unlock()
		}
		for due = due.Add(o.interval); time.Now().After(due); due = due.Add(o.interval) {
			// What is due twice is sent once, and counts as lost.
			t.failed.Add(1)
		}
	}
}

func measure(ctx context.Context, c *controller, fleet []*agent, o options) (result, error) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	t := new(tally)
	for i, a := range fleet {
		group.Go(func() { a.loop(ctx, i, o, t) })
	}
	if err := pass(ctx, o.settle); err != nil {
		return result{}, err
	}
	if o.profile != "" {
		_ = c.cmd.Process.Signal(syscall.SIGUSR1)
	}
	t.failed.Store(0)
	t.counting.Store(true)
	before, err := c.spent()
	began := time.Now()
	if err := errors.Join(err, pass(ctx, o.measure)); err != nil {
		return result{}, err
	}
	after, err := c.spent()
	elapsed := time.Since(began)
	t.counting.Store(false)
	if o.profile != "" {
		_ = c.cmd.Process.Signal(syscall.SIGUSR1)
	}
	memory, also := c.peak()
	if err := errors.Join(err, also); err != nil {
		return result{}, err
	}
	return t.result(result{
		Agents: o.agents, IntervalS: o.interval.Seconds(), CPUCores: (after - before).Seconds() / elapsed.Seconds(), RSSMB: memory,
	}), nil
}

func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (t *tally) result(r result) result {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Reports, r.Failed = len(t.delays), int(t.failed.Load())
	if err := t.first.Load(); err != nil {
		fmt.Println("the first that failed:", *err)
	}
	if len(t.delays) == 0 {
		return r
	}
	slices.Sort(t.delays)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	r.P99MS, r.WorstMS = ms(t.delays[len(t.delays)*99/100]), ms(t.delays[len(t.delays)-1])
	return r
}

func someInfo(now time.Time) *drydockv1.HostInfo {
	return &drydockv1.HostInfo{
		Kernel: "6.12.94+deb13-amd64", Os: "Debian GNU/Linux 13 (trixie)", Arch: "amd64", CpuModel: "a processor of 32 cores",
		CpuFeatures: []string{"aes", "avx", "avx2", "avx512f", "bmi1", "bmi2", "fma", "rdrand", "sha_ni", "sse4_1", "sse4_2", "xsave"},
		Cpus:        32, MemoryBytes: 256 << 30, MemoryAvailableBytes: rand.Int64N(256 << 30), DiskAvailableBytes: rand.Int64N(1 << 40),
		AgentVersion: version.String(), Api: version.API, ContainerdVersion: "1.7.24", RuncVersion: "1.1.15", CriuVersion: "4.2",
		CriuFeatures: map[string]bool{"mem_dirty_track": true, "uffd-noncoop": true, "pidfd_store": true}, CgroupVersion: 2,
		Uptime: durationpb.New(time.Duration(now.Unix()) * time.Second), Network: "bridge", Load: []float64{rand.Float64(), rand.Float64(), rand.Float64()},
		Filesystems: []*drydockv1.Filesystem{{Path: "/", Bytes: 1 << 40, AvailableBytes: rand.Int64N(1 << 40)}, {Path: "/boot", Bytes: 1 << 30, AvailableBytes: 1 << 29}},
	}
}

func someSummary(now time.Time) *drydockv1.StatusSummary {
	return &drydockv1.StatusSummary{
		Updates: 40, SecurityUpdates: 12, RebootRequired: true, RebootReasons: []string{"kernel 6.12.96 is installed, 6.12.94 runs"},
		StaleProcesses: 7, SecurityPackages: []string{"openssl", "libssl3", "linux-image-amd64", "curl"},
		MetadataConfirmed: timestamppb.New(now), Collected: timestamppb.New(now),
	}
}

// someStatus is that of a host which lacks 40 updates, as Debian's archives describe them.
func someStatus(i int) *drydockv1.HostStatus {
	packages := &drydockv1.PackageStatus{}
	for n := range 40 {
		packages.Updates = append(packages.Updates, &drydockv1.PackageUpdate{
			Name: fmt.Sprintf("libpackage%d", n), Arch: "amd64", From: "1.2.3-4+deb13u1", To: "1.2.3-4+deb13u2", Sources: []string{"security"},
			Origin: "Debian-Security/stable-security", Security: n%3 == 0, Advisories: []string{fmt.Sprintf("DSA-%d-1", 5900+n)},
			Sha256: fmt.Sprintf("%064x", i*40+n), DownloadBytes: 1 << 20,
		})
	}
	return &drydockv1.HostStatus{
		Kernel:    &drydockv1.KernelStatus{Running: "6.12.94+deb13-amd64"},
		Packages:  packages,
		Reboot:    &drydockv1.RebootStatus{Required: true},
		Processes: &drydockv1.ProcessStatus{},
	}
}
