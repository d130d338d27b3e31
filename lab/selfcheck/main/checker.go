package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"drydock/lab/selfcheck"
)

// environment is what a check may use.
type environment struct {
	ctx   context.Context // ends with the program
	dir   string          // for files; gone afterwards
	clock *clock
}

// maker sets up what a check watches, and returns how to verify it. A verification leaves everything as it was, so that
// it can be repeated, and so that whatever moment a move falls into finds a state that can be verified again.
type maker struct {
	name string
	make func(environment) (func() error, error)
}

// beyondCRIU are checks of what CRIU 4.2.1 is known not to bring over. They run only where they are asked for by name.
func beyondCRIU() []maker {
	return []maker{
		{"eventfd-semaphore", makeSemaphore}, // comes back without EFD_SEMAPHORE: one read takes the whole value
		{"stopped-child", makeStopped},       // the dump never ends if CRIU itself freezes a cgroup (v1) with a stopped process
	}
}

func makers() []maker {
	return []maker{
		{selfcheck.Clocks, makeClocks},
		{"identity", makeIdentity},
		{"threads", makeThreads},
		{"credentials", makeCredentials},
		{"limits", makeLimits},
		{"environment", makeEnvironment},
		{"network", makeNetwork},
		{"sysv-shared-memory", makeSysVShm},
		{"sysv-semaphores", makeSysVSem},
		{"sysv-messages", makeSysVMsg},
		{"posix-shared-memory", makePOSIXShm},
		{"file-offsets", makeOffsets},
		{"deleted-file", makeDeletedFile},
		{"file-locks", makeLocks},
		{"memory-maps", makeMaps},
		{"pipe", makePipe},
		{"unix-stream", makeUnixStream},
		{"unix-packets", makeUnixPackets},
		{"tcp", makeTCP},
		{"eventfd", makeEventFD},
		{"epoll", makeEpoll},
		{"pending-signals", makePendingSignals},
		{"signalfd", makeSignalFD},
		{"timerfd", makeTimerFD},
		{"interval-timer", makeIntervalTimer},
		{"posix-timer", makePOSIXTimer},
		{"child", makeChild},
		{"zombie", makeZombie},
		{"shell-pipeline", makePipeline},
	}
}

// checker verifies all checks, again and again.
type checker struct {
	instance string
	clock    *clock
	heart    *heart

	mu     sync.Mutex
	checks []check
	rounds int64
}

type check struct {
	name   string
	verify func() error
	failed string // the first failure
}

func newChecker(ctx context.Context, instance string, clock *clock, heart *heart, env environment, skip, also string) *checker {
	c := &checker{instance: instance, clock: clock, heart: heart}
	chosen := slices.DeleteFunc(makers(), func(m maker) bool { return listed(skip, m.name) })
	for _, m := range beyondCRIU() {
		if listed(also, m.name) {
			chosen = append(chosen, m)
		}
	}
	for _, m := range chosen {
		verify, err := m.make(env)
		made := check{name: m.name, verify: verify}
		if err != nil {
			made.failed = fmt.Sprintf("cannot be set up: %v", err)
		}
		c.checks = append(c.checks, made)
	}
	return c
}

// listed reports whether a name is in a list with commas.
func listed(list, name string) bool { return slices.Contains(strings.Split(list, ","), name) }

func (c *checker) run(ctx context.Context, pause time.Duration) {
	for ctx.Err() == nil {
		c.mu.Lock()
		c.verifyAll()
		c.mu.Unlock()
		time.Sleep(pause)
	}
}

func (c *checker) verifyAll() {
	c.rounds++
	for i := range c.checks {
		one := &c.checks[i]
		if one.failed != "" {
			continue
		}
		if err := one.verify(); err != nil {
			one.failed = fmt.Sprintf("round %d, %s: %v", c.rounds, time.Now().UTC().Format(time.RFC3339Nano), err)
			fmt.Printf("selfcheck: %s failed: %s\n", one.name, one.failed)
		}
	}
}

// report verifies everything now.
func (c *checker) report() selfcheck.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verifyAll()
	report := selfcheck.Report{Instance: c.instance, Rounds: c.rounds}
	for _, one := range c.checks {
		report.Checks = append(report.Checks, selfcheck.Check{Name: one.name, OK: one.failed == "", Detail: one.failed})
	}
	report.Gaps, report.LongestGap = c.clock.standstills()
	if c.heart != nil {
		report.Generation = c.heart.Generation()
	}
	return report
}
