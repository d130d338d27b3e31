package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// monitorsInNode is where on the controller's host the monitors of virtual machines lie, by the machines' names.
const monitorsInNode = "/run/drydock-monitors"

// resetLimit is how long a machine that is very busy may take.
const resetLimit = time.Minute

// Reset ends what a virtual machine does as its reset button would, and returns when that has happened: it boots then, or is off
// and was before. monitor is its QEMU's control socket. It is what the pool of a lab of virtual machines fences hosts with.
func Reset(ctx context.Context, monitor string) error {
	// QEMU listens for as long as the machine is on.
	if conn, err := net.Dial("unix", monitor); err == nil {
		conn.Close()
	} else if errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, resetLimit, errors.New("QEMU does not answer"))
	defer cancel()
	mon, err := openMonitor(ctx, monitor)
	if err != nil {
		return fmt.Errorf("reset the machine behind %s: %w", monitor, err)
	}
	defer mon.close()
	if err := mon.reset(); err != nil {
		return fmt.Errorf("reset the machine behind %s: %w", monitor, err)
	}
	return nil
}

// ResetHost is Reset for a host of the lab.
func (l *Lab) ResetHost(ctx context.Context, host string) error {
	if err := l.check(host); err != nil {
		return err
	}
	if !l.isVM(host) {
		return fmt.Errorf("host %s of lab %s is no virtual machine, and has nothing to be reset by", host, l.name)
	}
	return Reset(ctx, l.monitor(host))
}
