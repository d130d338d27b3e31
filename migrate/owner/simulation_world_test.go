package owner

import (
	"container/heap"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
)

// world is a discrete event simulation: virtual time in milliseconds, and one seeded source of chance. Everything that
// happens is an event; the checker looks after each of them.
type world struct {
	rng    *rand.Rand
	now    int64
	seq    int64
	events events
	faults faults

	hosts       []*host
	controllers []*controller
	store       simStore
	truth       truth
	rules       rules
	unshared    bool // the pod has no shared volume: it writes to files that move with it
	moves       int  // migrations and stops that leaders still have to order
	named       int  // migrations named so far

	failure string
	log     []string
	tracing bool
	actions map[Action]int
	// unanswered requests for a decision, by host and migration, for a broken rule.
	unanswered map[string]Outcome
}

// rules are what the simulated nodes decide by. A test replaces one to show that the checker catches it.
type rules struct {
	next     func(Journal, Facts, View) Step
	seen     func(Journal) bool
	registry func(Registry) operations
	gone     func(*world, *host, HostView) HostView
}

// operations is what nodes call of a Registry.
type operations interface {
	Decide(ctx ctx, pod, migration string, want Outcome) (Record, error)
	HandBack(ctx ctx, pod, migration string, at Place) (Record, error)
	Takeover(ctx ctx, pod string, epoch uint64, p Proof) (Record, error)
}

// faults are probabilities per message or step, and mean times in milliseconds between what befalls a node.
type faults struct {
	lose, duplicate, late  float64
	crash                  float64 // at each step of a process
	criu                   float64 // a dump or restore fails
	agentDown, boot, store int64
	pause, cut, end        int64
	die                    bool // one host stays down until its death is confirmed, or for ever
}

type event struct {
	at, seq int64
	do      func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

func (w *world) after(ms int64, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + ms, w.seq, do})
}

// run handles events until the given time, the first violation, or until done says so.
func (w *world) run(until int64, done func() bool) {
	for len(w.events) > 0 && w.failure == "" && !done() {
		e := w.events[0]
		if e.at > until {
			return
		}
		heap.Pop(&w.events)
		w.now = e.at
		e.do()
		w.check()
	}
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

func (w *world) between(lo, hi int64) int64 { return lo + w.rng.Int64N(hi-lo+1) }

func (w *world) logf(format string, args ...any) {
	if w.tracing {
		w.log = append(w.log, fmt.Sprintf("%6d  ", w.now)+fmt.Sprintf(format, args...))
	}
}

func (w *world) fail(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf("at %d ms: ", w.now) + fmt.Sprintf(format, args...)
		w.logf("VIOLATION %s", w.failure)
	}
}

func (w *world) trace() string { return strings.Join(w.log, "\n") }

// proc is a process: an agent or a controller. A crash ends all of its threads where they are.
type proc struct {
	w       *world
	name    string
	up      bool
	paused  int64 // until then
	threads []*thread
	main    func(*thread)
	cut     map[*proc]int64 // no message to or from there until then
	machine *host           // agents: where it runs
}

// thread is a coroutine of a process. It runs until it parks, and goes on when what it waits for has happened.
type thread struct {
	p     *proc
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	armed int64
	over  bool
}

type killed struct{}

func (p *proc) start() {
	if p.up || p.machine != nil && !p.machine.up {
		return
	}
	p.up = true
	p.w.logf("%s starts", p.name)
	p.spawn(p.main)
}

func (p *proc) crash(why string) {
	if !p.up {
		return
	}
	p.w.logf("%s ends: %s", p.name, why)
	p.up = false
	threads := p.threads
	p.threads = nil
	for _, t := range threads {
		t.over = true
		t.stop()
	}
}

func (p *proc) spawn(do func(*thread)) {
	t := &thread{p: p}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(killed); !ok {
					panic(r)
				}
			}
		}()
		do(t)
	})
	p.threads = append(p.threads, t)
	t.resume()
}

func (t *thread) resume() {
	if _, more := t.next(); !more && !t.over {
		t.over = true
		t.p.threads = slices.DeleteFunc(t.p.threads, func(o *thread) bool { return o == t })
	}
}

// arm gives the function that wakes the thread from its next park. Only the first call of it does.
func (t *thread) arm() (wake func()) {
	t.p.w.seq++
	id := t.p.w.seq
	t.armed = id
	return func() {
		if t.over || t.armed != id {
			return
		}
		if t.p.paused > t.p.w.now {
			t.p.w.after(t.p.paused-t.p.w.now, func() {
				if !t.over && t.armed == id {
					t.armed = 0
					t.resume()
				}
			})
			return
		}
		t.armed = 0
		t.resume()
	}
}

func (t *thread) park() {
	if !t.yield(struct{}{}) {
		panic(killed{})
	}
}

func (t *thread) sleep(ms int64) {
	t.p.w.after(ms, t.arm())
	t.park()
}

// step is a point at which a process may be killed or held up: before and after everything that has an effect.
func (t *thread) step() {
	w := t.p.w
	if w.chance(w.faults.crash) {
		p := t.p
		w.after(0, func() { p.crash("killed at a step") })
		w.after(w.between(1, 800), p.start)
		t.park()
	}
	if w.chance(w.faults.crash) {
		t.sleep(w.between(1, 300))
	}
}

func (w *world) delay() int64 {
	if w.chance(w.faults.late) {
		return w.between(50, 3000)
	}
	return w.between(1, 4)
}

func (w *world) severed(a, b *proc) bool { return max(a.cut[b], b.cut[a]) > w.now }

// call asks another process, which handles the request in a thread of its own. ok is false when no answer came in time:
// the request may have been handled, may be handled later, or more than once.
func call[T any](t *thread, to *proc, patience int64, handle func(*thread) T) (answer T, ok bool) {
	w, from := t.p.w, t.p
	wake := t.arm()
	reply := func(v T) func() {
		return func() {
			if !ok {
				answer, ok = v, true
				wake()
			}
		}
	}
	deliver := func() {
		if !to.up || w.severed(from, to) {
			return
		}
		to.spawn(func(h *thread) {
			v := handle(h)
			if !w.chance(w.faults.lose) && !w.severed(from, to) {
				w.after(w.delay(), reply(v))
			}
		})
	}
	// A paused process handles what has arrived when it goes on.
	arrive := func() { w.after(max(0, to.paused-w.now), deliver) }
	if !w.chance(w.faults.lose) {
		w.after(w.delay(), arrive)
	}
	if w.chance(w.faults.duplicate) {
		w.after(w.delay(), arrive)
	}
	w.after(patience, wake)
	t.park()
	return answer, ok
}
