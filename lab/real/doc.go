// Package real holds the tests that need kernels of their own: pods move between virtual machines, whose reboots are real and
// which run Drydock from its package. `make test-vm` runs them.
package real
