// Package bench compares Drydock with what else moves a container between hosts, and measures what a pod costs its program
// when nothing moves. Everything that is compared runs in one lab, in one run, in turns, and figures are medians, so that
// what else the machine does meets all alike.
//
// Migrations. A contender moves the same Redis, which a client in the lab's client namespace asks once a millisecond:
//
//   - drydock_stop and drydock_postcopy: `drydock migrate` in that mode, as an operator would call it.
//   - podman: `podman container checkpoint --export`, a copy, `podman container restore --import`, with runc, and with
//     podman's own network on the host's bridge, so that address and MAC stay the same.
//   - runc: `runc checkpoint`, a copy, `runc restore`, in a network namespace made by hand on either host and plugged in when
//     the restore is done; earlier, the kernel would answer the client with a reset.
//
// podman and runc get what makes them fastest: checkpoints lie in memory, exports are not compressed, and the copy is one
// plain TCP stream over the lab's switch, without the encryption that Drydock's has. Where the kernel does not let CRIU read
// the limits of other users' processes, Redis must be root's; here it is everybody's, in all contenders.
//
// The blackout is the longest time without an answer on the client's open connection. A lost connection counts until a new one
// is answered; one that stays silent for ten seconds counts as lost.
//
// The freeze is the time in which no process of Redis runs. For Drydock it is what the migration's report says. For podman and
// runc it is read off the files with CRIU's statistics: the source's is written when the dump is over, which lasted for the
// frozen time that is in it, and the destination's when the tasks go on.
//
// The floor is what CRIU itself takes for the dump and the restore of the same container with the options that Drydock gives it:
// the time from the first line of its log to the one that says that all is done. What starts CRIU, copies and plugs in is
// not in it.
package bench
