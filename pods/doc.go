// Package pods runs pods on containerd: it creates, inspects, freezes, checkpoints and restores them, and owns their
// network and their volumes. A pod is one or more containers that share a network namespace and move as a whole.
//
// Runtime is the way in; it holds no state of its own but what lies on disk and in containerd, so a process that starts
// anew sees the same pods. Everything that it makes carries the pod's name in a label and is gone after Remove.
package pods
