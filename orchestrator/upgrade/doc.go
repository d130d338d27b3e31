// Package upgrade keeps services: their upgrade records, what runs where in which version since when, and who still needs which
// translator. It brings the pods of a service from a version to its neighbour, one after the other as the record's schedule says.
//
// An upgrade lives in the store, each of its pods with the step that it is in; every transition is one transaction under the
// leader's term, and every step may be done again. Whether a pod may begin is decided in the transaction that says so: the limits
// of a schedule hold whoever asks at the same moment. steps.go says what is done to a pod in which order, and how each step is
// undone. A pod that fails is brought back to the version that it had, with the state that it had, and the upgrade stops.
package upgrade
