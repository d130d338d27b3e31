package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What the container and the host say to each other, in files in the container's root.
const (
	answer   = "/answer"
	question = "/question"
	ready    = "ready"
	whole    = "whole"
)

// Main is the container's program. It makes what a dump must carry, says that it is ready, and, once it is asked, whether all of
// it is as it was.
func Main() error {
	c, err := newContent()
	if err != nil {
		return say(err.Error())
	}
	if err := say(ready); err != nil {
		return err
	}
	for {
		if _, err := os.Stat(question); err == nil {
			break
		}
		time.Sleep(lookEvery)
	}
	if err := c.check(); err != nil {
		return say(err.Error())
	}
	return say(whole)
}

// say puts the whole word in its place at once.
func say(word string) error {
	if err := os.WriteFile(answer+".new", []byte(word), 0o644); err != nil {
		return err
	}
	return os.Rename(answer+".new", answer)
}

// content is what is carried.
type content struct {
	memory []byte
	sum    [sha256.Size]byte
	// beats are counted by threads of their own, and by a timer's signal.
	beats [threads]beat
	rings atomic.Int64
	// Each line has a word in it that nobody has read.
	lines []line
	clock time.Duration
}

type beat struct {
	thread atomic.Int64
	count  atomic.Int64
}

// line is two ends of a connection or pipe.
type line struct {
	name string
	in   io.Writer
	out  io.Reader
	// back and forth go the other way; nil for a pipe.
	back  io.Writer
	forth io.Reader
}

const (
	threads     = 4
	memoryBytes = 4 << 20
	timerEvery  = 20 * time.Millisecond
	// beatWithin is how long threads and the timer may take to go on after a restore.
	beatWithin = 20 * time.Second
	unread     = "written before, read after"
)

func newContent() (*content, error) {
	c := &content{memory: make([]byte, memoryBytes)}
	if _, err := rand.Read(c.memory); err != nil {
		return nil, err
	}
	c.sum = sha256.Sum256(c.memory)
	for i := range c.beats {
		go c.beats[i].run()
	}
	if err := c.startTimer(); err != nil {
		return nil, err
	}
	if err := c.connect(); err != nil {
		return nil, err
	}
	for _, l := range c.lines {
		if _, err := io.WriteString(l.in, unread); err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
	}
	var err error
	c.clock, err = monotonic()
	return c, err
}

func (b *beat) run() {
	runtime.LockOSThread()
	b.thread.Store(int64(unix.Gettid()))
	for {
		if int64(unix.Gettid()) == b.thread.Load() {
			b.count.Add(1)
		}
		time.Sleep(lookEvery)
	}
}

func (c *content) startTimer() error {
	rang := make(chan os.Signal, 1)
	signal.Notify(rang, unix.SIGALRM)
	go func() {
		for range rang {
			c.rings.Add(1)
		}
	}()
	every := unix.NsecToTimeval(timerEvery.Nanoseconds())
	_, err := unix.Setitimer(unix.ItimerReal, unix.Itimerval{Interval: every, Value: every})
	return err
}

func (c *content) connect() error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	c.lines = append(c.lines, line{name: "pipe", in: in, out: out})
	var config net.ListenConfig
	config.SetMultipathTCP(false) // which Go would choose and CRIU cannot dump
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": "/socket"} {
		listener, err := config.Listen(context.Background(), network, address)
		if err != nil {
			return err
		}
		there, err := net.Dial(network, listener.Addr().String())
		if err != nil {
			return err
		}
		here, err := listener.Accept()
		if err != nil {
			return err
		}
		c.lines = append(c.lines, line{name: network + " connection", in: there, out: here, back: here, forth: there})
	}
	return nil
}

func monotonic() (time.Duration, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return time.Duration(now.Nano()), err
}

// check says all that is not as it was.
func (c *content) check() error {
	var errs []error
	if sha256.Sum256(c.memory) != c.sum {
		errs = append(errs, errors.New("its memory is another"))
	}
	if now, err := monotonic(); err != nil || now < c.clock {
		errs = append(errs, fmt.Errorf("its monotonic clock went from %s to %s: %v", c.clock, now, err))
	}
	errs = append(errs, c.goesOn())
	for _, l := range c.lines {
		if err := l.check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.name, err))
		}
	}
	return errors.Join(errs...)
}

// goesOn says which of the threads and the timer stand still.
func (c *content) goesOn() error {
	var before [threads]int64
	for i := range c.beats {
		before[i] = c.beats[i].count.Load()
	}
	rings := c.rings.Load()
	for end := time.Now().Add(beatWithin); time.Now().Before(end); time.Sleep(lookEvery) {
		all := c.rings.Load() > rings+1
		for i := range c.beats {
			all = all && c.beats[i].count.Load() > before[i]+1
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("a thread or its timer stands still: %d of %d rings", c.rings.Load()-rings, beatWithin/timerEvery)
}

// check reads what was written before, and writes both ways.
func (l line) check() error {
	if err := expect(l.out, unread); err != nil {
		return err
	}
	if _, err := io.WriteString(l.in, "on"); err != nil {
		return err
	}
	if err := expect(l.out, "on"); err != nil || l.back == nil {
		return err
	}
	if _, err := io.WriteString(l.back, "back"); err != nil {
		return err
	}
	return expect(l.forth, "back")
}

func expect(from io.Reader, text string) error {
	if d, ok := from.(interface{ SetReadDeadline(time.Time) error }); ok {
		if err := d.SetReadDeadline(time.Now().Add(beatWithin)); err != nil {
			return err
		}
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(from, got); err != nil {
		return err
	}
	if !bytes.Equal(got, []byte(text)) {
		return fmt.Errorf("%q came out of it, and %q was written", got, text)
	}
	return nil
}
