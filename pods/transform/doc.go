// Package transform makes a stopped pod another version of itself: what its volumes hold, and its specification, all of it or
// nothing. The volumes are changed on a copy; the pod's own stay as they are until the whole copy is on disk, and are kept until
// Settle.
//
// A kill at any instant, or a loss of power, leaves the old state or the new one: Do begins anew what was cut off before the
// commit and goes on with what was cut off after it, Revert goes back from anywhere, and Finish puts into force what was
// decided. The commit is one small file. Nobody may run the pod meanwhile.
package transform
