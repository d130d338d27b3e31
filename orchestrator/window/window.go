// Package window says when a pool may be patched: recurring windows on the clock of a place, across midnight and across both
// changes to and from daylight saving time.
//
// A window opens at the first moment at which the clock of its zone shows `from` or later on that day, and closes at the first
// moment at which it shows `to` or later. So a time that the clock jumps over opens or closes the window at the jump, a time
// that comes twice counts when it comes first, and a window that lies wholly in the hour that is left out does not open on
// that day. A window past midnight belongs to the day on which it opens.
package window

import (
	"fmt"
	"slices"
	"time"
)

// Window recurs on some days of the week.
type Window struct {
	// Days are those on which it opens, by time.Weekday.
	Days [7]bool
	// From and To are times of the day; where To is not after From, it is on the next day.
	From, To Clock
	// Zone is the place whose clock counts.
	Zone *time.Location
	// MinLeft is how much of the window must be left for another host to be started.
	MinLeft time.Duration
}

// Clock is a time of the day in minutes since 00:00, up to 24:00.
type Clock int

// ParseClock reads 00:00 to 24:00.
func ParseClock(text string) (Clock, error) {
	if text == "24:00" {
		return 24 * 60, nil
	}
	at, err := time.Parse("15:04", text)
	if err != nil || len(text) != 5 {
		return 0, fmt.Errorf("%q is no time of the day", text)
	}
	return Clock(at.Hour()*60 + at.Minute()), nil
}

// String is the clock as ParseClock reads it.
func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", int(c)/60, int(c)%60) }

// Length is how long the window is open on a day without a change of the clock.
func (w Window) Length() time.Duration {
	length := w.To - w.From
	if length <= 0 {
		length += 24 * 60
	}
	return time.Duration(length) * time.Minute
}

// Span is one stretch of time in which a window is open: from Open until just before Close.
type Span struct {
	Open, Close time.Time
	// MinLeft is the window's.
	MinLeft time.Duration
}

func (s Span) contains(t time.Time) bool { return !t.Before(s.Open) && t.Before(s.Close) }

// on is the span that opens on a day of the window's zone; it is empty where the clock jumped over it.
func (w Window) on(year int, month time.Month, day int) Span {
	end := day
	if w.To <= w.From {
		end++
	}
	return Span{Open: instant(year, month, day, w.From, w.Zone), Close: instant(year, month, end, w.To, w.Zone), MinLeft: w.MinLeft}
}

// instant is the first moment at which the clock in a zone shows the given time, or a later one. time.Date does not say what
// it does with times that do not exist or come twice, so the zone's stretches of constant offset are gone through one by one.
func instant(year int, month time.Month, day int, clock Clock, zone *time.Location) time.Time {
	shown := time.Date(year, month, day, 0, int(clock), 0, 0, time.UTC)
	// No offset is larger than 26 hours, so before this moment no clock shows the time.
	at := shown.Add(-26 * time.Hour)
	for {
		_, offset := at.In(zone).Zone()
		candidate := shown.Add(-time.Duration(offset) * time.Second)
		start, end := at.In(zone).ZoneBounds()
		if candidate.Before(start) {
			return start.In(zone)
		}
		if end.IsZero() || candidate.Before(end) {
			return candidate.In(zone)
		}
		at = end
	}
}

// Set is all windows of a pool. A pool without windows is always open.
type Set []Window

// horizon is how many days ahead an opening is looked for: a weekly window may be left out by a change of the clock, twice in
// a row where a zone also skips a day.
const horizon = 22

// spans are the stretches that contain t or come after it, in order of their opening.
func (s Set) spans(t time.Time) []Span {
	var spans []Span
	for _, w := range s {
		year, month, day := t.In(w.Zone).Date()
		for offset := -2; offset <= horizon; offset++ {
			// At noon UTC, so that the day of the week is that of the date.
			date := time.Date(year, month, day+offset, 12, 0, 0, 0, time.UTC)
			if !w.Days[date.Weekday()] {
				continue
			}
			if span := w.on(date.Date()); span.Open.Before(span.Close) && t.Before(span.Close) {
				spans = append(spans, span)
			}
		}
	}
	slices.SortFunc(spans, func(a, b Span) int { return a.Open.Compare(b.Open) })
	return spans
}

// Status is what the windows say of one moment.
type Status struct {
	Open bool
	// Until is when an open set closes, zero where it never does; of a closed set, when it opens next, zero where it never does.
	Until time.Time
	// MinLeft is how much must be left to start another host; the longest where several windows are open.
	MinLeft time.Duration
}

// At tells whether the windows are open at t. Windows that touch or overlap count as one.
func (s Set) At(t time.Time) Status {
	if len(s) == 0 {
		return Status{Open: true}
	}
	var status Status
	for _, span := range s.spans(t) {
		switch {
		case span.contains(t):
			if !status.Open || span.Close.After(status.Until) {
				status.Until = span.Close
			}
			status.Open = true
			status.MinLeft = max(status.MinLeft, span.MinLeft)
		case !status.Open:
			return Status{Until: span.Open}
		case !span.Open.After(status.Until):
			if span.Close.After(status.Until) {
				status.Until = span.Close
			}
		default:
			return status
		}
	}
	return status
}

// someDay is one on which no zone is about to change its clock.
func someDay() time.Time { return time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC) }

// Lasts is for how long the set stays open from an opening of one of its windows on: for longer than that window where others
// touch it.
func (s Set) Lasts(w Window) time.Duration {
	longest := w.Length()
	for _, span := range (Set{w}).spans(someDay()) {
		longest = max(longest, s.At(span.Open).Until.Sub(span.Open))
	}
	return longest
}

// Longest is for how long the set is open at a time at most; 0: it is always open.
func (s Set) Longest() time.Duration {
	var longest time.Duration
	for _, w := range s {
		longest = max(longest, s.Lasts(w))
	}
	return longest
}

// MayStart tells whether another host may be started at t that is expected to take this long; if not, why not, and when to ask
// again (zero: never).
func (s Set) MayStart(t time.Time, takes time.Duration) (ok bool, why string, again time.Time) {
	status := s.At(t)
	if !status.Open {
		if status.Until.IsZero() {
			return false, "no window opens again", time.Time{}
		}
		return false, "the window is closed until " + stamp(status.Until), status.Until
	}
	if status.Until.IsZero() {
		return true, "", time.Time{}
	}
	left := status.Until.Sub(t)
	if need := max(status.MinLeft, takes); left < need {
		next := s.At(status.Until)
		return false, fmt.Sprintf("the window closes at %s, in %s, and a host needs %s", stamp(status.Until), left.Round(time.Second), need.Round(time.Second)), next.Until
	}
	return true, "", time.Time{}
}

func stamp(t time.Time) string { return t.Format("Mon 2006-01-02 15:04 MST") }
