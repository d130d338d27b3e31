// Package selfcheck is the outside of the self-checking program in the workbench image: what it reports over TCP, and
// what it leaves on a shared volume so that two copies of it that ran at the same instant are found out afterwards. The
// program itself is in selfcheck/main.
package selfcheck

// Report is what the program answers to "check".
type Report struct {
	Instance   string     `json:"instance"` // drawn at the program's start; a move does not change it
	Checks     []Check    `json:"checks"`
	Rounds     int64      `json:"rounds"`         // of all checks since the start
	Gaps       int        `json:"gaps"`           // times that the program stood still for longer than 100 ms
	LongestGap float64    `json:"longest_gap_ms"` // of those
	Generation Generation `json:"generation"`     // zero without a generation directory
}

// Clocks is the name of the check that no clock goes back.
const Clocks = "clocks"

// Check is one thing that must not change. Once it has failed it stays failed.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Failed lists the checks that failed.
func (r Report) Failed() []Check {
	var failed []Check
	for _, c := range r.Checks {
		if !c.OK {
			failed = append(failed, c)
		}
	}
	return failed
}
