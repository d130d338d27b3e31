// Package orchestrator is the controller: the registry of hosts, pods, images and migrations, the services that operators and
// agents call, and the leader that makes every pod what its operator wants.
//
// What an operator wants is written first (a PodRecord's desired state, a migration's or a drain's record), and then done. A
// controller that dies in between leaves the record, and the next leader goes on from there: converge takes one pod to what
// its record wants, and every call that changes a pod is a write followed by converge. Who may run a pod is never decided
// here but by package migrate/owner.
//
// Pools are patched by package rollout, and services upgraded by package upgrade, in the same way. Each says by its interfaces what it
// asks of the controller; rollouts.go, rollouts_term.go and upgrades.go answer. What a plan is made from is this package's: survey.go.
package orchestrator
