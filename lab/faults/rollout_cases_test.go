//go:build faults

package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"

	drydockv1 "drydock/api/drydock/v1"
)

// rolloutFaults are all ways to break a rollout. Those of CI have one strike for each step, dpkg killed half-way, and a leader that
// is paused, in a single rollout under three controllers.
func rolloutFaults() []rolloutFault {
	return []rolloutFault{
		{name: "one kill for each step", controllers: several, strikes: choice(), causes: shortCauses(), ci: true},
		{name: "the leading one of three controllers dies as a step begins", controllers: several, strikes: strikes("begins", theLeader)},
		{name: "the leading one of three controllers dies as a step is done", controllers: several, strikes: strikes("did", theLeader)},
		{name: "the host of the leading one of three controllers crashes", controllers: several, strikes: strikes("begins", theLeadersHost)},
		{name: "the leading one of three controllers is paused", controllers: several, strikes: []strike{pauseAtStep("drain")}},
		{name: "what stops a rollout", causes: causes()},
		{name: "the controller dies as a step begins", strikes: strikes("begins", theController)},
		{name: "the controller dies as a step is done", strikes: strikes("did", theController)},
		{name: "the host's agent dies as a step begins", strikes: strikes("begins", theAgent)},
		{name: "the other host's agent dies as a step begins", strikes: strikes("begins", theOtherAgent)},
		{name: "at work on packages", strikes: []strike{killDpkg(), killAtWork("agent"), killAtWork("controller")}},
		{name: "while the pod moves", strikes: []strike{
			inMove("source-after-freeze", controller, "controller"), inMove("destination-before-decide", "h1", "agent"),
		}},
	}
}

// Who is to be killed.
const (
	theController  = "the controller"
	theLeader      = "the leading controller"
	theLeadersHost = "the leading controller's host"
	theAgent       = "the agent of the host"
	theOtherAgent  = "the agent of the other host"
)

// atStep is a strike while the controller stands where a step begins, or is done.
func atStep(when, step, who string) strike {
	return strike{
		name: fmt.Sprintf("%s %s/kill %s", when, step, who), point: point{controller, "rollout-" + when + "-" + step},
		do: func(r *roll) error {
			host, err := r.patchedHost()
			if err != nil {
				return err
			}
			switch who {
			case theController:
				return r.killService(controller, "controller")
			case theLeadersHost:
				if err := crashLeader(r.scene); err != nil {
					return err
				}
				return errors.Join(r.takenOver(), r.returned())
			case theLeader:
				if host, err = r.leader(); err != nil {
					return err
				}
				return r.killService(host, "controller")
			case theOtherAgent:
				host = r.other(host)
			}
			return r.killService(host, "agent")
		},
	}
}

// killService ends a service, once it is up again after the last time.
func (r *roll) killService(side, service string) error {
	err := until(r.ctx, service+" on "+side, func() (bool, string) {
		_, err := r.ServicePID(r.host(side), service)
		return err == nil, fmt.Sprint(err)
	})
	if err != nil {
		return err
	}
	return kill(side, service)(r.scene)
}

// strikes are one for each step, in the first round.
func strikes(when, who string) []strike {
	var all []strike
	for _, step := range rolloutSteps() {
		all = append(all, atStep(when, step, who))
	}
	return all
}

// choice is one strike for each step, with turns for whom it hits. In the second round dpkg is killed, and then the leader paused.
func choice() []strike {
	var all []strike
	for i, step := range rolloutSteps() {
		if step == "end-gates" {
			all = append(all, killDpkg(), pauseAtStep("return"))
		}
		all = append(all, atStep("begins", step, []string{theAgent, theLeader}[i%2]))
	}
	return all
}

// pauseAtStep pauses the controller that leads where a step begins. The next one takes the step up; then the first one wakes up in
// it and believes that it leads.
func pauseAtStep(step string) strike {
	p := point{controller, "rollout-begins-" + step}
	return strike{name: "begins " + step + "/pause the leading controller", point: p, do: func(r *roll) error {
		if err := pauseLeader(r.scene); err != nil {
			return err
		}
		return errors.Join(r.takenOver(), os.Remove(r.faultFile(p)+".reached"), r.returned())
	}}
}

func (r *roll) other(host string) string {
	hosts := r.Hosts()
	return hosts[1-slices.Index(hosts, host)]
}

// killDpkg ends a dpkg that unpacks or configures packages on any host.
func killDpkg() strike {
	return strike{name: "kill dpkg half-way", do: func(r *roll) error {
		_, pid, err := r.atWork()
		if err != nil {
			return err
		}
		return r.end(pid)
	}}
}

// killAtWork ends a service while dpkg works: the host's agent, or the controller.
func killAtWork(service string) strike {
	return strike{name: "kill the " + service + " while dpkg works", do: func(r *roll) error {
		host, _, err := r.atWork()
		if err != nil {
			return err
		}
		if service == "controller" {
			host = controller
		}
		return r.killService(host, service)
	}}
}

// inMove ends a service while the pod's move stands at an agent's point.
func inMove(at, side, service string) strike {
	return strike{name: at + "/kill the " + service, point: point{"h1", at}, do: func(r *roll) error { return r.killService(side, service) }}
}

// atWork waits until dpkg unpacks or configures packages, and says where and which process that is.
func (r *roll) atWork() (host string, pid int, err error) {
	err = r.untilRollout("work on packages", func(*drydockv1.Rollout) bool {
		for _, host = range r.Hosts() {
			if pid = r.dpkg(host); pid > 0 {
				return true
			}
		}
		return false
	})
	return host, pid, err
}

// dpkg is the process that unpacks or configures packages on a host, or 0.
func (r *roll) dpkg(host string) int {
	pids, err := r.find(host, "dpkg")
	if err != nil {
		return 0 // the host is down, or goes down
	}
	for _, pid := range pids {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.Contains(line, []byte("\x00--unpack\x00")) || bytes.Contains(line, []byte("\x00--configure\x00")) {
			return pid
		}
	}
	return 0
}
