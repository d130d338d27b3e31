package status

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Collector finds out what the host lacks. It may be asked by several at once.
type Collector struct {
	// Packages is the host's package manager; nil where it has none that is known.
	Packages packages.Provider
	Pod      Pod
	// Proc and Run are where /proc and /run are.
	Proc, Run string
	Now       func() time.Time
	// Simulated says that a reboot here changes no kernel: that which runs is not the host's own.
	Simulated bool

	// mu keeps two from asking the package manager at a time.
	mu sync.Mutex
}

// NewCollector collects on the host that this runs on.
func NewCollector(provider packages.Provider, pod Pod, simulated bool) *Collector {
	return &Collector{Packages: provider, Pod: pod, Proc: "/proc", Run: "/run", Now: time.Now, Simulated: simulated}
}

// Collect looks at everything. What could not be found out is said in the state of the part that lacks it; the error is of ctx
// only.
func (c *Collector) Collect(ctx context.Context) (*drydockv1.HostStatus, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	status := &drydockv1.HostStatus{}
	inventory, err := c.inventory(ctx)
	if err != nil {
		status.Packages = &drydockv1.PackageStatus{State: c.state(err)}
	} else {
		status.Packages = inventory.Status
		status.Packages.State.Collected = timestamppb.New(c.Now())
	}
	var unknown error
	if err != nil {
		unknown = errors.New("the packages are not known")
	}
	var uts unix.Utsname
	uerr := unix.Uname(&uts)
	status.Kernel = kernelStatus(unix.ByteSliceToString(uts.Release[:]), unix.ByteSliceToString(uts.Version[:]), inventory)
	status.Kernel.State = c.state(errors.Join(uerr, unknown))
	status.Reboot = c.reboot(status.Kernel, inventory, unknown)
	stale, err := staleProcesses(ctx, c.Proc, c.Pod)
	status.Processes = &drydockv1.ProcessStatus{State: c.state(err), Stale: stale}
	return status, ctx.Err()
}

// Refresh asks the package manager's sources for what is new, and then looks at everything.
func (c *Collector) Refresh(ctx context.Context) (*drydockv1.HostStatus, error) {
	if c.Packages != nil {
		c.mu.Lock()
		err := c.Packages.Refresh(ctx)
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
	return c.Collect(ctx)
}

func (c *Collector) inventory(ctx context.Context) (*packages.Inventory, error) {
	if c.Packages == nil {
		return nil, errors.New("this host has no package manager that is known: apt and dnf are")
	}
	return c.Packages.Collect(ctx)
}

func (c *Collector) state(err error) *drydockv1.PartState {
	state := &drydockv1.PartState{Collected: timestamppb.New(c.Now())}
	if err != nil {
		state.Error = err.Error()
	}
	return state
}

func (c *Collector) reboot(kernel *drydockv1.KernelStatus, inventory *packages.Inventory, unknown error) *drydockv1.RebootStatus {
	r := &drydockv1.RebootStatus{}
	note := func(reason *drydockv1.RebootReason) {
		if reason != nil {
			r.Reasons = append(r.Reasons, reason)
		}
	}
	if !c.Simulated {
		note(kernelReason(kernel))
	}
	requested, err := requestedReason(c.Run)
	unknown = errors.Join(unknown, err)
	note(requested)
	if booted, err := bootTime(c.Proc, c.Now()); err != nil {
		unknown = errors.Join(unknown, fmt.Errorf("when it booted: %w", err))
	} else if inventory != nil {
		note(coreReason(inventory.Core, booted))
	}
	r.Required, r.State = len(r.Reasons) > 0, c.state(unknown)
	return r
}
