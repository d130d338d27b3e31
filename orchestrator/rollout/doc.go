// Package rollout patches the hosts of a pool, one round after the other, while their pods run on elsewhere.
//
// A rollout is a durable list of steps that one loop runs. What a rollout must not forget lies in the store: its head with the step
// that it is in, its hosts with what was done to each, and the rounds that are left. Every transition is one transaction of the term
// in which it is made, and every step may be done again: where a controller dies, the next leader finds what is active and goes on
// from there. steps.go says what is done in which order and how it is undone; run.go has the loop. What is done is on record before
// it is done.
//
// Of a pool one rollout is under way at a time. A host is told to end one boot and no other, and what was stopped for it is started
// again. A host that fails stays cordoned and says why.
//
// controller.go says what is asked of the controller, and Config what else is needed.
package rollout
