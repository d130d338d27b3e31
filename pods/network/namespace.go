package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// within runs f on a thread that is in the given network namespace, and nowhere else. When the thread cannot be put back it
// stays locked to its goroutine, so that the runtime ends it rather than lending it to others.
func within(ns netns.NsHandle, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("look up the thread's network namespace: %w", err)
			return
		}
		defer home.Close()
		if err := netns.Set(ns); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// inFreshNamespace runs f on a thread in a new network namespace, which ends with the thread unless f pins it.
func inFreshNamespace(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread must die
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// pin makes sure that path is a mount of a network namespace, making a new one if it is not.
func pin(path string) error {
	pinned, err := isPinned(path)
	if err != nil || pinned {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	file.Close()
	return inFreshNamespace(func() error {
		self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		if err := unix.Mount(self, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pin network namespace at %s: %w", path, err)
		}
		return nil
	})
}

// unpin removes every mount at path and then path itself.
func unpin(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmount network namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func isPinned(path string) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	return fs.Type == unix.NSFS_MAGIC, nil
}

// open returns the namespace at path and a netlink handle in it. The caller calls the returned function when done.
func open(path string) (netns.NsHandle, *netlink.Handle, func(), error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return -1, nil, nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		ns.Close()
		return -1, nil, nil, fmt.Errorf("open netlink in %s: %w", path, err)
	}
	return ns, handle, func() { handle.Close(); ns.Close() }, nil
}

// MakeAlone makes a network namespace at path that holds nothing but its loopback. It may be called again.
func MakeAlone(path string) error {
	if err := pin(path); err != nil {
		return err
	}
	_, handle, done, err := open(path)
	if err != nil {
		return err
	}
	defer done()
	lo, err := handle.LinkByName("lo")
	if err == nil {
		err = handle.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("loopback of network namespace %s: %w", path, err)
	}
	return nil
}

// RemoveAlone removes what MakeAlone made, if it is there.
func RemoveAlone(path string) error { return unpin(path) }
