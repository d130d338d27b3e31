// Package pods runs pods on containerd: it creates, inspects, freezes, checkpoints and restores them, and owns their
// network and their volumes. A pod is one or more containers that share a network namespace and move as a whole.
package pods
