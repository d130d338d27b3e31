package load

import (
	"sort"
	"sync"
	"time"
)

// Timeline remembers when answers came.
type Timeline struct {
	mu      sync.Mutex
	start   time.Time
	answers []time.Duration // since start, never falling
}

func newTimeline() *Timeline { return &Timeline{start: time.Now()} }

// mark notes an answer that came now.
func (t *Timeline) mark() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers = append(t.answers, time.Since(t.start))
}

// Blackout returns the longest time between from and to during which no answer came. What lies outside of the window does
// not count, so a silence that began earlier or is not over is cut there.
func (t *Timeline) Blackout(from, to time.Time) time.Duration {
	first, last := from.Sub(t.start), to.Sub(t.start)
	t.mu.Lock()
	defer t.mu.Unlock()
	longest, since := time.Duration(0), first
	next := sort.Search(len(t.answers), func(i int) bool { return t.answers[i] > first })
	for ; next < len(t.answers) && t.answers[next] < last; next++ {
		longest = max(longest, t.answers[next]-since)
		since = t.answers[next]
	}
	return max(longest, last-since)
}

// Answers returns how many have come so far.
func (t *Timeline) Answers() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(len(t.answers))
}

// Last returns when the latest answer came; the zero time if there was none.
func (t *Timeline) Last() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.answers) == 0 {
		return time.Time{}
	}
	return t.start.Add(t.answers[len(t.answers)-1])
}

// longestBlackout is the longest of several timelines'.
func longestBlackout(lines []*Timeline, from, to time.Time) time.Duration {
	var longest time.Duration
	for _, line := range lines {
		longest = max(longest, line.Blackout(from, to))
	}
	return longest
}
