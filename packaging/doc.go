// Package main builds Drydock's Debian package from a program that has been built: the program, systemd units, example
// configuration, shell completion and man pages.
//
// The maintainer scripts in scripts/ promise that installing starts nothing, that an upgrade restarts what runs and
// touches no pod, that the package is not removed from a host that still holds pods, and that purging it leaves
// nothing.
package main
