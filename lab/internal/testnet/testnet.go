// Package testnet makes network namespaces for tests.
package testnet

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// New makes a network namespace with nothing but a loopback and returns its path in this process. It has no name and
// ends with the test and the last process in it. The test needs root.
func New(t testing.TB) string {
	t.Helper()
	type made struct {
		file *os.File
		err  error
	}
	result := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		file, err := unshare()
		result <- made{file, err}
	}()
	ns := <-result
	if ns.err != nil {
		t.Fatalf("make a network namespace: %v", ns.err)
	}
	t.Cleanup(func() { _ = ns.file.Close() })
	return fmt.Sprintf("/proc/self/fd/%d", ns.file.Fd())
}

// unshare gives the calling thread a namespace of its own and returns it.
func unshare() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, err
	}
	return os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
}
