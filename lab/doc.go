// Package lab makes hosts for trying and testing on one machine: namespaced hosts that share the machine's kernel, each
// with its own mount, PID, UTS, IPC and network namespace, its own parent cgroup, containerd and agent, joined by a
// bridge in a switch namespace; one lighter host for the controller; a client namespace, the third party that talks to
// the pods; and, where hosts are to lack updates, a proxy through which they fetch them.
//
// What a lab makes is found again from naming conventions and from records, so that Down removes all of it, whatever
// was killed at whatever moment: files below /var/lib/drydock-lab/NAME and /run/drydock/lab/NAME, processes in the
// cgroup /drydock-lab/NAME of every hierarchy, mounts and namespaces pinned below /run/drydock/lab/NAME/ns. Only the
// cache of root file systems, /var/cache/drydock/lab, outlives a lab.
//
// A host is a keeper and an init. The keeper is a process on the machine: it makes the namespaces, plugs in the
// network, starts the init, and starts it anew when the host reboots. The init is PID 1 of the host: it mounts,
// reaps, and keeps the host's services running. The host dies with its init. A reboot is a restart of the host's
// processes with a new boot id, on the same kernel.
package lab
