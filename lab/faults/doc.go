// Package faults tries to break a migration at every point that it has a name for: it kills agents, controllers, CRIU,
// containerd and whole hosts, cuts, slows and half-opens links, fills disks and memory, damages images, and takes the store
// away. The tests stand behind the build tag faults and need root; every case is a subtest of TestFaults.
//
// A fault strikes when a side has come to a named point, never after a time. Afterwards nobody helps. Each case then holds
// the pod to what Drydock promises: never two copies at any instant, exactly one again, on the host that the owner's record
// names, its clients go on over the connections that they had, and nothing is left over on any host.
//
// TestRollouts does the same to rollouts: controllers and agents die at every step, and dpkg half-way. A rollout ends by itself, or
// stops and says why and what to do; it is then told to go on, and nothing else is done for it. Every strike is a subtest.
//
// Then come the causes that must stop a rollout: a failing package, an archive that is gone, expired or wrongly signed, a full /boot, a
// host that stays away, a red gate, a closing window. Hosts' real apt meets them, operators' commands are typed, and what these say is read.
//
// TestControllers takes the controller that leads away from a migration: its host crashes, or it is paused and wakes up when another
// one leads. So do some rollouts, which have three controllers. Each prints how long the takeover took.
//
// `-set ci` leaves one kill for each step, of a migration and of a rollout, dpkg's, each link fault once, two causes, and two leaders that go.
package faults
