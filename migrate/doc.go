// Package migrate moves one pod from one host to another: the steps of a migration, its transfer, its decision and its
// rollback.
//
// Engine is a host's part in all of it. As the source of a migration it runs the list of steps (source.go, steps.go); as a
// destination it receives (receiver.go) and then does, as any host does that is not in the middle of a step, what
// owner.Next says (resolve.go): the path after a crash is the path of every day. What has to outlive the agent lies on disk
// in a journal, in memory in the migration's directory, or in the kernel.
package migrate
