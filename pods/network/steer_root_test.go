//go:build root

package network

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// listenIn listens in a pod, and says its name to whoever connects, and again for every line.
func listenIn(t *testing.T, n *Network, address, name string) *net.TCPListener {
	t.Helper()
	ns, err := netns.GetFromPath(n.Path())
	must(t, err)
	defer ns.Close()
	var l net.Listener
	must(t, within(ns, func() (err error) {
		config := net.ListenConfig{}
		config.SetMultipathTCP(false)
		l, err = config.Listen(context.Background(), "tcp", address)
		return err
	}))
	t.Cleanup(func() { _ = l.Close() }) // a test may have closed it
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					fmt.Fprintln(c, name)
				}
			}()
		}
	}()
	return l.(*net.TCPListener)
}

// asks connects, from the client or from within the pod, and keeps the connection.
func asks(t *testing.T, ns netns.NsHandle, address string) (net.Conn, error) {
	t.Helper()
	var c net.Conn
	err := within(ns, func() (err error) {
		c, err = net.DialTimeout("tcp", address, 5*time.Second)
		return err
	})
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func answersAs(t *testing.T, c net.Conn, want string) {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(5*time.Second)))
	_, err := io.WriteString(c, "who\n")
	must(t, err)
	got, err := bufio.NewReader(c).ReadString('\n')
	must(t, err)
	if got != want+"\n" {
		t.Errorf("%s answers, not %s", got, want)
	}
}

func steerTo(t *testing.T, n *Network, port uint16, l *net.TCPListener) {
	t.Helper()
	raw, err := l.SyscallConn()
	must(t, err)
	six := l.Addr().(*net.TCPAddr).IP.To4() == nil
	must(t, raw.Control(func(fd uintptr) { must(t, n.Steer(t.Context(), []Steered{{port, int(fd), six}})) }))
}

func TestNewConnectionsFromOutsideAreLedToAnotherSocketAndOthersAreNot(t *testing.T) {
	w := newWire(t)
	n := w.create(t, w.a)
	must(t, n.PlugIn(t.Context()))
	inside, err := netns.GetFromPath(n.Path())
	must(t, err)
	defer inside.Close()
	listenIn(t, n, ":8080", "program")
	at := net.JoinHostPort(podAddr, "8080")
	connect := func(ns netns.NsHandle, address string) net.Conn {
		c, err := asks(t, ns, address)
		must(t, err)
		return c
	}
	before := connect(w.client, at)
	answersAs(t, before, "program")
	six := listenIn(t, n, "[::1]:15080", "six")
	steerTo(t, n, 8080, six)
	answersAs(t, connect(w.client, net.JoinHostPort(podAddr6, "8080")), "six")
	steerTo(t, n, 8080, listenIn(t, n, "127.0.0.1:15080", "shim"))
	if !w.a.Steers(podName) {
		t.Error("nothing is steered")
	}
	during := connect(w.client, at)
	answersAs(t, during, "shim")
	answersAs(t, connect(inside, at), "program")
	answersAs(t, connect(inside, "127.0.0.1:8080"), "program")
	answersAs(t, before, "program")
	if host, _, _ := net.SplitHostPort(during.RemoteAddr().String()); host != podAddr {
		t.Errorf("the client sees %s", during.RemoteAddr())
	}
	second := listenIn(t, n, "127.0.0.1:15081", "second")
	steerTo(t, n, 8080, second)
	answersAs(t, connect(w.client, at), "second")
	must(t, second.Close())
	if _, err := asks(t, w.client, at); err == nil {
		t.Error("a connection is made to nobody")
	}
	must(t, w.a.EndSteer(t.Context(), podName))
	must(t, w.a.EndSteer(t.Context(), podName))
	answersAs(t, connect(w.client, at), "program")
	answersAs(t, during, "shim")
	if _, err := os.Stat(w.a.steerPin(podName)); !os.IsNotExist(err) || w.a.Steers(podName) {
		t.Errorf("the program is pinned yet: %v", err)
	}
	if mounted, err := isBPF(w.a.steerDir()); err != nil || mounted {
		t.Errorf("the file system is mounted: %v, %v", mounted, err)
	}
}

func TestASteeringOfANamespaceThatIsGoneIsReplaced(t *testing.T) {
	w := newWire(t)
	n := w.create(t, w.a)
	steerTo(t, n, 8080, listenIn(t, n, "127.0.0.1:15080", "shim"))
	must(t, w.a.deleteLink(podName, outerName(podName)))
	must(t, unpin(n.Path()))
	n = w.create(t, w.a)
	must(t, n.PlugIn(t.Context()))
	listenIn(t, n, ":8080", "program")
	steerTo(t, n, 8080, listenIn(t, n, "127.0.0.1:15080", "shim"))
	c, err := asks(t, w.client, net.JoinHostPort(podAddr, "8080"))
	must(t, err)
	answersAs(t, c, "shim")
	must(t, w.a.Remove(t.Context(), podName))
	if mounted, err := isBPF(w.a.steerDir()); err != nil || mounted {
		t.Errorf("the file system is mounted: %v, %v", mounted, err)
	}
}
