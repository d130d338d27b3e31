package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netns"
)

// PackagesNode is the node through which hosts fetch packages, in a lab with updates: apt-cacher-ng, which fetches each
// file once for all of them. It shares the machine's network, and so reaches what the machine reaches. Hosts reach nothing
// of that but the proxy: a relay listens for them in a network namespace on the switch.
const PackagesNode = "packages"

const (
	packagesAddr = "10.77.0.3"
	proxyAddress = packagesAddr + ":3142"
	ownPath      = "drydock" // of the lab's own archive at the proxy

	proxySocket  = "/tmp/apt-cacher-ng.sock" // in the node
	relayNetNS   = "/run/drydock-packages"   // in the node: the network namespace on the switch
	proxyConfig  = "/etc/drydock-proxy"
	ownDirectory = "/srv/packages"
)

func newProxyRecipe() recipe {
	return recipe{kind: proxyRoot, packages: []string{"apt-cacher-ng", "ca-certificates"}}
}

// proxyServices run in the packages' node.
func proxyServices() []Service {
	return []Service{
		{
			Name: "apt-cacher-ng",
			Argv: []string{"setpriv", "--reuid=apt-cacher-ng", "--regid=apt-cacher-ng", "--clear-groups", "apt-cacher-ng", "-c", proxyConfig},
		},
		{Name: "relay", Argv: []string{"/usr/bin/drydock", "lab", "package-relay", proxyAddress, proxySocket}},
	}
}

// proxyFiles are the node's: the machine's own idea of names, and of the proxy through which it reaches the world.
func proxyFiles() (map[string]string, error) {
	config := fmt.Sprintf(`CacheDir: /var/cache/apt-cacher-ng
LogDir: /var/log/apt-cacher-ng
SupportDir: /usr/lib/apt-cacher-ng
SocketPath: %s
Port: 0
ForeGround: 1
LocalDirs: %s %s
`, proxySocket, ownPath, ownDirectory)
	if upstream := os.Getenv("http_proxy"); upstream != "" {
		config += "Proxy: " + upstream + "\n"
	}
	files := map[string]string{proxyConfig + "/acng.conf": config}
	for _, name := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"} {
		data, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[name] = string(data)
	}
	return files, nil
}

// startPackages starts the proxy, where hosts are to have updates, and returns once hosts can ask it.
func (u *up) startPackages(ctx context.Context) error {
	if !u.opts.Updates.Pending() {
		return nil
	}
	if err := u.lab.makeNetwork(ctx, PackagesNode); err != nil {
		return err
	}
	if err := u.lab.startNode(ctx, PackagesNode); err != nil {
		return err
	}
	root, err := u.lab.Root(PackagesNode)
	if err != nil {
		return err
	}
	return u.lab.waitService(ctx, PackagesNode, "relay", func() bool {
		err := u.lab.InNetNS(ClientNode, func() error {
			c, err := net.DialTimeout("tcp", proxyAddress, time.Second)
			if err == nil {
				c.Close()
			}
			return err
		})
		return err == nil && accepts(root+proxySocket)
	})
}

// runRelay listens at an address in the switch's network and passes each connection on to the proxy's socket.
func runRelay(address, socket string) error {
	ns, err := netns.GetFromPath(relayNetNS)
	if err != nil {
		return fmt.Errorf("the switch's network: %w", err)
	}
	defer ns.Close()
	var listener net.Listener
	err = onOwnThread(func() (err error) {
		if err = netns.Set(ns); err == nil {
			listener, err = net.Listen("tcp", address)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("listen for hosts: %w", err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go relay(conn, socket)
	}
}

// relay copies in both directions until either side has said all. The proxy expects to be told first for whom it works.
func relay(host net.Conn, socket string) {
	defer host.Close()
	proxy, err := net.Dial("unix", socket)
	if err != nil {
		return // the host sees its connection end, and asks again
	}
	defer proxy.Close()
	from, _, _ := net.SplitHostPort(host.RemoteAddr().String())
	if _, err := fmt.Fprintf(proxy, "GET / HTTP/1.0\r\nX-Original-Source: %s\r\n\r\n", from); err != nil {
		return
	}
	ended := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		ended <- struct{}{}
	}
	go pass(proxy, host)
	go pass(host, proxy)
	<-ended
}

// proxyMounts are the packages' node's beside those of every host.
func proxyMounts(l *Lab) []mounting {
	return []mounting{
		{target: relayNetNS, source: l.NetNS(PackagesNode), file: true},
		{target: ownDirectory, source: l.RepositoryDir()},
	}
}
