package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"drydock/internal/config"
)

// maxControllers is how many parts a store can sensibly have: each write waits for more than half of them.
const maxControllers = 5

// firstFurther is the last byte of the second controller's address; that of the first is controllerAddr.
const firstFurther = 4

const (
	controllerPort = 7443
	storePort      = 7442
	// poolsInHost and faultsInHost are the same directory for all controllers of a lab.
	poolsInHost  = "etc/drydock/pools"
	faultsInHost = "etc/drydock/faults"
)

// Controllers names the controllers' hosts: ctl, and then ctl2, ctl3 and so on, which have joined it. Each has its own part of
// the store, on a disk of its own. Files of pools and fault points are the same for all: those of ctl.
func (l *Lab) Controllers() []string {
	names := []string{ControllerNode}
	for n := 2; n <= l.rec.Controllers; n++ {
		names = append(names, ControllerNode+strconv.Itoa(n))
	}
	return names
}

// isController tells whether a node is a controller's host.
func isController(node string) bool { return controllerNumber(node) > 0 }

// controllerNumber counts controllers from 1; it is 0 for every other node.
func controllerNumber(node string) int {
	rest, found := strings.CutPrefix(node, ControllerNode)
	if !found {
		return 0
	}
	if rest == "" {
		return 1
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n < 2 || n > maxControllers {
		return 0
	}
	return n
}

func controllerAddress(number int) string {
	if number == 1 {
		return controllerAddr
	}
	return fmt.Sprintf("10.77.0.%d", firstFurther+number-2)
}

// socketName is a controller's socket in the lab's run directory.
func socketName(node string) string {
	if node == ControllerNode {
		return "controller.sock"
	}
	return node + ".sock"
}

// SocketOf is where the API of one controller is reachable on the machine.
func (l *Lab) SocketOf(node string) string { return filepath.Join(l.runDir(), socketName(node)) }

// Sockets are where the controllers' API is reachable on the machine, that of ctl first.
func (l *Lab) Sockets() []string {
	var sockets []string
	for _, node := range l.Controllers() {
		sockets = append(sockets, l.SocketOf(node))
	}
	return sockets
}

// controllerURLs are the controllers as a host of the lab reaches them. Hosts begin with different ones.
func (l *Lab) controllerURLs(host string) []string {
	urls := l.urlsOf(l.Controllers())
	turn := max(slices.Index(l.rec.Hosts, host), 0) % len(urls)
	return append(urls[turn:], urls[:turn]...)
}

func (l *Lab) urlsOf(controllers []string) []string {
	var urls []string
	for _, node := range controllers {
		urls = append(urls, fmt.Sprintf("https://%s:%d", l.Address(node), controllerPort))
	}
	return urls
}

func (l *Lab) controllerConfig(node string, opts Options) string {
	bits, gateway, kind, timings := networkBits, "", opts.Network, ""
	if opts.Driver == DriverVM {
		timings = fmt.Sprintf("timings: {boot-timeout: %s, create-timeout: %[1]s}\n", bootLimit)
	}
	if opts.PortSecurity {
		bits, gateway = podBits, PodGateway
	}
	if kind == "" {
		kind = config.NetworkAuto
	}
	return fmt.Sprintf(`name: %s
listen: %s:%d
socket: /run/drydock-api/%s
data-dir: /var/lib/drydock/controller
pod-cidr: %s
pod-prefix-length: %d
gateway: %q
network: {kind: %s}
`, node, l.Address(node), controllerPort, socketName(node), PodCIDR, bits, gateway, kind) + timings + l.storeConfig(node)
}

// storeConfig leaves a single controller's store its own.
func (l *Lab) storeConfig(node string) string {
	all := l.Controllers()
	if len(all) == 1 {
		return ""
	}
	text := fmt.Sprintf("etcd: {peer: %q}\n", fmt.Sprintf("%s:%d", l.Address(node), storePort))
	if node == ControllerNode {
		return text
	}
	others := slices.DeleteFunc(slices.Clone(all), func(other string) bool { return other == node })
	return text + fmt.Sprintf("join: {controller: [%s], token-file: /etc/drydock/token}\n", strings.Join(l.urlsOf(others), ", "))
}

// writeController writes what a controller reads.
func (l *Lab) writeController(node, faultDir string, opts Options) error {
	pools := filepath.Join(l.ConfigDir(ControllerNode), filepath.Base(poolsInHost))
	if err := os.MkdirAll(pools, 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(pools, Pool+".yaml"), []byte(l.poolConfig()), 0o644),
		os.WriteFile(filepath.Join(l.ConfigDir(node), "controller.yaml"), []byte(l.controllerConfig(node, opts)+faultDir), 0o644))
}

// controllerMounts are what only controllers' hosts have.
func controllerMounts(l *Lab, node string) []mounting {
	list := []mounting{{target: "run/drydock-api", source: l.runDir()}, {target: monitorsInNode, source: l.monitors()}}
	if node == ControllerNode {
		return list
	}
	for _, shared := range []string{poolsInHost, faultsInHost} {
		source := filepath.Join(l.ConfigDir(ControllerNode), filepath.Base(shared))
		if _, err := os.Stat(source); err == nil {
			list = append(list, mounting{target: shared, source: source})
		}
	}
	return list
}

// startControllers starts the controllers' hosts one after the other, and waits until the controllers can be talked to. From the
// second on they join with a token, as anywhere: each once the store of those before it is whole.
func (u *up) startControllers(ctx context.Context) error {
	for _, node := range u.lab.Controllers() {
		if node != ControllerNode {
			if err := u.giveToken(ctx, node); err != nil {
				return err
			}
		}
		if err := u.lab.startNode(ctx, node); err != nil {
			return err
		}
		if !u.opts.hasController() {
			continue
		}
		socket := u.lab.SocketOf(node)
		if err := u.lab.waitService(ctx, node, Controller().Name, func() bool { return accepts(socket) }); err != nil {
			return err
		}
	}
	return nil
}
