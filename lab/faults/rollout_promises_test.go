//go:build faults

package faults

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

// bootIDs are the boots that hosts are in, as the lab knows them.
func (r *roll) bootIDs() (map[string]string, error) {
	status, err := r.Status()
	boots := map[string]string{}
	for _, h := range status.Hosts {
		boots[h.Name] = h.BootID
	}
	return boots, err
}

// installed asks every host's dpkg.
func (r *roll) installed() (map[string]string, error) {
	all := map[string]string{}
	for _, host := range r.Hosts() {
		out, err := r.Exec(r.ctx, host, "dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n").Output()
		if err != nil {
			return nil, fmt.Errorf("ask dpkg on %s: %w", host, err)
		}
		for line := range strings.Lines(string(out)) {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "installed" {
				all[host+" "+fields[1]] = fields[2]
			}
		}
	}
	return all, nil
}

// verifyRollout holds the rollout to the promises, once it has ended.
func (r *roll) verifyRollout() error {
	var last *drydockv1.Rollout
	err := r.untilRollout("the end of the rollout", func(now *drydockv1.Rollout) bool {
		last = now
		return now.GetState() == drydockv1.RolloutState_ROLLOUT_STATE_FINISHED
	})
	if err != nil {
		return err
	}
	pod, err := r.settled()
	if err != nil {
		return err
	}
	r.t.Logf("the pod runs on %s, epoch %d; %d moves", pod.Host, pod.Epoch, len(last.Moves))
	return errors.Join(r.hostsPatched(last), stepsTaken(last), r.clients(fault{}), r.copies(fault{}))
}

// hostsPatched compares what every host was to be given with what its dpkg has, and looks for the boot that followed.
func (r *roll) hostsPatched(last *drydockv1.Rollout) error {
	after, err := r.installed()
	if err != nil {
		return err
	}
	boots, err := r.bootIDs()
	if err != nil {
		return err
	}
	var errs []error
	if len(last.Hosts) != len(r.Hosts()) {
		errs = append(errs, fmt.Errorf("%d hosts were patched", len(last.Hosts)))
	}
	for _, h := range last.Hosts {
		if len(h.GetPatch().GetPackages()) == 0 {
			errs = append(errs, fmt.Errorf("%s was given nothing", h.Host))
		}
		for _, pin := range h.GetPatch().GetPackages() {
			if got := after[h.Host+" "+pin.Name]; got != pin.To || got == r.versions[h.Host+" "+pin.Name] {
				errs = append(errs, fmt.Errorf("%s: %s was pinned to %s, and dpkg has %s", h.Host, pin.Name, pin.To, got))
			}
		}
		if h.RebootKind != "simulated" || boots[h.Host] == r.boots[h.Host] {
			errs = append(errs, fmt.Errorf("%s: reboot %q, boot before %s, now %s", h.Host, h.RebootKind, r.boots[h.Host], boots[h.Host]))
		}
	}
	return errors.Join(errs...)
}

// planAnew is journalled where the rollout has found another way than its plan's. It is none of the steps.
const planAnew = "plan anew"

// stepsTaken compares the steps that the rollout has journalled with those that are struck here.
func stepsTaken(last *drydockv1.Rollout) error {
	var taken []string
	for _, s := range last.Steps {
		taken = append(taken, s.Name)
	}
	for _, h := range last.Hosts {
		for _, s := range h.Steps {
			taken = append(taken, s.Name)
		}
	}
	slices.Sort(taken)
	taken = slices.DeleteFunc(slices.Compact(taken), func(name string) bool { return name == planAnew })
	want := rolloutSteps()
	if slices.Sort(want); !slices.Equal(taken, want) {
		return fmt.Errorf("the rollout's steps are %v, and %v are struck", taken, want)
	}
	return nil
}
