package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/gate"
	"drydock/orchestrator/pool"
	"drydock/orchestrator/refusal"
)

// gone is what follows for a host that has not answered for as long as a boot may take. One that was told to reboot is switched
// off, where the pool says how: only then may what it ran be started elsewhere. One that only stopped answering may run its pods
// well, and is left alone.
func (x *execution) gone(ctx context.Context, h *drydockv1.RolloutHost, what string, cause error) error {
	known, err := x.Host(ctx, h.GetHost())
	if err != nil {
		return x.removed(h, err)
	}
	reason := fmt.Sprintf("host %s is not back after %s: %v", h.GetHost(), x.Timings.BootTimeout, cause)
	remedy := "look after it, and run `drydock rollout resume " + x.id + "`"
	if known.Answers || x.pool.Fence == nil || h.GetOldBootId() == "" {
		return &setback{what, []*drydockv1.Refusal{refusal.Because(reason, remedy)}}
	}
	boot := known.Record.GetBootId()
	var output string
	err = x.recorded(ctx, "fence", "host "+h.GetHost(), "boot "+boot+": "+reason, func() (err error) {
		output, err = x.fence(ctx, h.GetHost())
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &setback{what, []*drydockv1.Refusal{
			refusal.Because(reason, remedy),
			refusal.Because(fmt.Sprintf("it could not be switched off: %v: %s", err, lastLine(output)), "switch it off, and run `drydock host confirm-dead "+h.GetHost()+" --boot-id "+boot+"`"),
		}}
	}
	x.Log.Warn("host was switched off", "rollout", x.id, "host", h.GetHost(), "boot", boot)
	if err := x.onRecord(ctx, h.GetHost(), func(record *drydockv1.HostRecord) error {
		if record.GetBootId() == boot {
			record.DeadBootId = boot
		}
		return nil
	}); err != nil {
		return err
	}
	if _, err := x.changeHost(ctx, h.GetHost(), func(h *drydockv1.RolloutHost) error {
		h.FencedBootId = boot
		return nil
	}); err != nil {
		return err
	}
	return &setback{what, []*drydockv1.Refusal{refusal.Because(reason+"; it was switched off", remedy)}}
}

// fence switches a host off, and is nil only where that is certain.
func (x *execution) fence(ctx context.Context, host string) (output string, err error) {
	f := x.pool.Fence
	if f.IPMI == nil {
		argv := make([]string, 0, len(f.Command))
		for _, arg := range f.Command {
			argv = append(argv, gate.ForHost(arg, host))
		}
		return x.command(ctx, argv, f.Timeout, host)
	}
	if output, err = x.command(ctx, ipmi(f.IPMI, host, "off"), f.Timeout, host); err != nil {
		return output, err
	}
	deadline := x.Now().Add(f.Timeout)
	for {
		output, err = x.command(ctx, ipmi(f.IPMI, host, "status"), f.Timeout, host)
		if err == nil && strings.Contains(strings.ToLower(output), "power is off") {
			return output, nil
		}
		if !x.Now().Before(deadline) {
			return output, errors.Join(err, errors.New("its management controller does not say that it is off"))
		}
		if !sleep(ctx, x.Timings.ReconcileInterval) {
			return output, ctx.Err()
		}
	}
}

// ipmi is ipmitool's command line. The password is read by ipmitool from the file, so that no process list shows it.
func ipmi(f *pool.IPMI, host, power string) []string {
	return []string{"ipmitool", "-I", f.Interface, "-H", gate.ForHost(f.Address, host), "-U", f.User, "-f", f.PasswordFile, "chassis", "power", power}
}
