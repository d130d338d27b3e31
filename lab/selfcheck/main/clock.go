package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clock reads the clocks all the time: none may go back, and where two readings are far apart the program stood still.
type clock struct {
	mu      sync.Mutex
	before  map[int32]int64 // by clock, ns
	failure error
	gaps    []gap
	stood   int
	longest time.Duration
}

// gap is a time in which the program did not run. end is on CLOCK_MONOTONIC.
type gap struct {
	end    time.Duration
	length time.Duration
}

const (
	clockPause = time.Millisecond
	smallGap   = 20 * time.Millisecond  // counted when a timer is late
	standstill = 100 * time.Millisecond // reported
	gapsKept   = 1000
)

func newClock() *clock { return &clock{before: map[int32]int64{}} }

func (c *clock) run(ctx context.Context) {
	last := now()
	for ctx.Err() == nil {
		time.Sleep(clockPause)
		c.read()
		current := now()
		c.note(current, current-last)
		last = current
	}
}

func (c *clock) read() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, id := range map[string]int32{"CLOCK_MONOTONIC": unix.CLOCK_MONOTONIC, "CLOCK_BOOTTIME": unix.CLOCK_BOOTTIME, "CLOCK_MONOTONIC_RAW": unix.CLOCK_MONOTONIC_RAW} {
		var ts unix.Timespec
		if err := unix.ClockGettime(id, &ts); err != nil {
			c.failure = fmt.Errorf("read %s: %w", name, err)
			continue
		}
		if ts.Nano() < c.before[id] && c.failure == nil {
			c.failure = fmt.Errorf("%s went back by %v", name, time.Duration(c.before[id]-ts.Nano()))
		}
		c.before[id] = ts.Nano()
	}
}

func (c *clock) note(end, length time.Duration) {
	if length < smallGap {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gaps = append(c.gaps, gap{end, length})
	if len(c.gaps) > gapsKept {
		c.gaps = c.gaps[1:]
	}
	if length > standstill {
		c.stood++
		c.longest = max(c.longest, length)
	}
}

// stoodStill returns for how long the program did not run since the given time.
func (c *clock) stoodStill(since time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum time.Duration
	for _, g := range c.gaps {
		if g.end > since {
			sum += g.length
		}
	}
	return sum
}

// standstills returns how often the program stood still noticeably, and the longest of them in ms.
func (c *clock) standstills() (int, float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stood, c.longest.Seconds() * 1000
}

// now is CLOCK_MONOTONIC.
func now() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func makeClocks(env environment) (func() error, error) {
	return func() error {
		env.clock.mu.Lock()
		defer env.clock.mu.Unlock()
		return env.clock.failure
	}, nil
}
