// Package record reads the upgrade record of a service: its versions in order and, for each two neighbours, six parts: which
// versions they are, the translators up and down, the transform of persistent state, the schedule, and the disallowed calls.
// These are Upstart's simulation objects, transform and scheduling functions (Ajmani, Liskov and Shrira, ECOOP 2006): up lets
// a node that has been upgraded play its past, down lets one that has not play its future.
//
// No part may be missing; `none` is written out. Parse refuses a record with a gap, an ambiguity or translators that do
// not compose. Check also runs the record's examples. Everything that is wrong comes back at once, with file, line, column
// and remedy.
package record
