package probe

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Watch keeps the answer to whether this host can dump and restore: it is proven when Keep begins, whenever Stack says something
// else, and when somebody asks; after a failure now and then. There is never more than one proof at a time.
type Watch struct {
	// Prove dumps and restores, and returns what went wrong.
	Prove func(ctx context.Context) error
	// Stack names the kernel, the CRIU and the runc that are there now: the proof holds for these.
	Stack func(ctx context.Context) (string, error)
	Log   *slog.Logger

	// proving has a value while somebody proves.
	proving chan struct{}
	begin   sync.Once
	mu      sync.Mutex
	last    Proof
}

// Proof is what came of one.
type Proof struct {
	// At is its end; zero where there was none yet.
	At   time.Time
	Took time.Duration
	// Stack is what it was proven for.
	Stack string
	// Err is why the host cannot dump and restore; nil where it can.
	Err error
}

const (
	// beginAfter leaves an agent that starts to the pods that it finds.
	beginAfter = 3 * time.Second
	// stackEvery is how often it is looked whether the stack is another.
	stackEvery = 15 * time.Second
	// firstRetry is how long after a failure the next proof comes; each further one after twice as long.
	firstRetry, longestRetry = 30 * time.Second, 10 * time.Minute
)

// Last is the last proof.
func (w *Watch) Last() Proof {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// Now proves, after one that is under way, and returns what came of it. A failure counts when it comes twice. A proof that could not
// be brought to its end in time, because the host was too busy or ctx ended, is returned but not kept: it says nothing of the host.
func (w *Watch) Now(ctx context.Context) Proof {
	w.begin.Do(func() { w.proving = make(chan struct{}, 1) })
	select {
	case w.proving <- struct{}{}:
		defer func() { <-w.proving }()
	case <-ctx.Done():
		return Proof{At: time.Now(), Err: ctx.Err()}
	}
	stack, err := w.Stack(ctx)
	if err != nil {
		return Proof{At: time.Now(), Err: err}
	}
	began := time.Now()
	if err = w.Prove(ctx); err != nil && !cutOff(err) {
		err = w.Prove(ctx)
	}
	p := Proof{At: time.Now(), Took: time.Since(began), Stack: stack, Err: err}
	if cutOff(err) {
		return p
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = p
	return p
}

func cutOff(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// Keep keeps the proof until ctx ends.
func (w *Watch) Keep(ctx context.Context) error {
	tick := time.NewTimer(beginAfter)
	defer tick.Stop()
	var again time.Time
	for retry := firstRetry; ; tick.Reset(stackEvery) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		last := w.Last()
		stack, err := w.Stack(ctx)
		if err != nil {
			continue // what keeps it from being read is a problem of its own
		}
		if stack == last.Stack && (last.Err == nil || time.Now().Before(again)) {
			continue
		}
		if stack != last.Stack {
			retry = firstRetry
		}
		p := w.Now(ctx)
		if p.Err == nil {
			w.Log.Info("this host can dump and restore", "stack", p.Stack, "took", p.Took)
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.Log.Error("this host cannot dump and restore", "stack", p.Stack, "error", p.Err)
		again = time.Now().Add(retry)
		retry = min(2*retry, longestRetry)
	}
}
