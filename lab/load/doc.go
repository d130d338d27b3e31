// Package load drives the services of pods as their clients would, from inside a network namespace of the lab, and keeps
// the books that prove a move went unnoticed: which connections stayed open, which acknowledged writes are still there,
// and how long nobody answered.
//
// No load here ever replaces a lost connection silently: a connection that is open at the end is the one that was opened
// at the start.
package load

// Result is what a load found out. A run without a flaw has as many connections after as before, and no lost write and
// no error.
type Result struct {
	ConnectionsBefore int    `json:"connections_before"` // opened at the start
	ConnectionsAfter  int    `json:"connections_after"`  // of those, still answering at the end
	AckedWrites       int64  `json:"acked_writes"`
	AckedWritesLost   int64  `json:"acked_writes_lost"` // acknowledged, and not there afterwards
	Errors            int64  `json:"errors"`
	FirstError        string `json:"first_error,omitempty"`
}

// Flawless reports whether every connection was kept, no write was lost and nothing went wrong.
func (r Result) Flawless() bool {
	return r.ConnectionsAfter == r.ConnectionsBefore && r.AckedWritesLost == 0 && r.Errors == 0
}

// fail counts an error and remembers the first.
func (r *Result) fail(err error) {
	r.Errors++
	if r.FirstError == "" {
		r.FirstError = err.Error()
	}
}
