// Package owner decides which host may run a pod. It promises that at most one copy of a pod ever runs, whatever
// crashes, is cut off, is delayed or boots, and that one runs again as soon as that can be done safely.
//
// Three things carry the promise:
//
//   - Record, one per pod, in a linearizable Store. Registry changes it by compare-and-swap only; every operation may be
//     repeated, and an outcome that is not known is answered by reading, never by a guess.
//   - Journal, one per pod and host, on the host's disk: how far this host has gone.
//   - Next, a pure function from the journal, what the kernel shows, and the record (or that it cannot be read), to the
//     one thing that this host may do now. Agents call it on the ordinary path as well as after a restart.
//
// docs/decision.md holds the protocol on one page and says why it is safe.
package owner
