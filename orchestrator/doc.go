// Package orchestrator is the controller: the registry of hosts, pods, images and migrations, the services that operators and
// agents call, and the leader that makes every pod what its operator wants.
//
// What an operator wants is written first (a PodRecord's desired state, a migration's or a drain's record), and then done. A
// controller that dies in between leaves the record, and the next leader goes on from there: converge takes one pod to what
// its record wants, and every call that changes a pod is a write followed by converge. Who may run a pod is never decided
// here but by package migrate/owner.
//
// A pool is patched in the same way: the plan and each step of a rollout are written down before the next is begun, under the
// leader's term, and every step may be done again. docs/rollouts.md says what is done, rollout_steps.go in which order.
package orchestrator
