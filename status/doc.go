// Package status tells what a host is and what it lacks: its kernel, processor, memory and disk, the versions of what
// containers stand on, and what checkpointing can really do here.
package status
