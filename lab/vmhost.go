package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// DriverVM makes the hosts for pods virtual machines with a kernel of their own, whose reboots are real. The controller's host
// stays one of namespaces.
const DriverVM = "vm"

// firstPort is where, in the switch's namespace, the first machine's SSH server is.
const firstPort = 2201

// vmStarts is how many machines start at once: each keeps two processors busy.
const vmStarts = 2

// isVM tells whether the node is a virtual machine.
func (l *Lab) isVM(node string) bool {
	return l.rec.Driver == DriverVM && slices.Contains(l.rec.Hosts, node)
}

func (l *Lab) vmPort(node string) int      { return firstPort + slices.Index(l.rec.Hosts, node) }
func (l *Lab) vmImage(node string) vmImage { return vmImage{l.rec.Images[node]} }
func (l *Lab) monitors() string            { return filepath.Join(l.stateDir(), "monitors") }
func (l *Lab) monitor(node string) string  { return filepath.Join(l.monitors(), node) }
func (l *Lab) vmDisk(node string) string   { return l.nodeDir(node, "disk.qcow2") }

// vmEnter is the command that enters the namespace in which the machines' SSH servers are reached.
func (l *Lab) vmEnter() []string { return []string{"nsenter", "--net=" + l.NetNS(switchNode), "--"} }

// filling is what a copy of the saved machine gets to be a host.
type filling struct {
	deb, token string
	apt        map[string]string // files that say where updates come from
}

// makeVM starts a host for the first time: a copy of the machine that was saved, which becomes the host node and gets Drydock
// from its package.
func (l *Lab) makeVM(ctx context.Context, node string, fill filling) error {
	for _, dir := range []string{l.nodeDir(node), l.LogDir(node)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("host %s: %w", node, err)
		}
	}
	base := l.vmImage(node).file("booted.qcow2")
	overlay := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, l.vmDisk(node))
	if err := runQuietly(overlay); err != nil {
		return fmt.Errorf("disk of host %s: %w", node, err)
	}
	if err := l.startVM(ctx, node, l.vmImage(node).file("booted")); err != nil {
		return err
	}
	if err := l.become(ctx, node, fill); err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	if err := l.installDrydock(ctx, node, fill.deb); err != nil {
		return fmt.Errorf("host %s: install %s: %w", node, filepath.Base(fill.deb), err)
	}
	return l.vmReady(ctx, node)
}

// startVM starts a machine, from what was saved in load or, if that is empty, by booting its disk, and waits until it lets the
// lab in.
func (l *Lab) startVM(ctx context.Context, node, load string) error {
	if err := l.clearNode(ctx, node); err != nil {
		return err
	}
	if err := removeIfThere(l.monitor(node)); err != nil {
		return err
	}
	accel, err := l.vmImage(node).accel()
	if err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	m := machine{
		accel: accel, disk: l.vmDisk(node), tap: port(node), mac: l.mac(node, uplink), port: l.vmPort(node),
		monitor: l.monitor(node), serial: filepath.Join(l.LogDir(node), "serial.log"), load: load,
	}
	p, err := l.startQEMU(node, m)
	if err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	if err := writeJSON(l.keeperRecord(node), p); err != nil {
		return err
	}
	if err := writeJSON(l.runningRecord(node), running{Init: p}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if err := l.letRun(ctx, node, m); err != nil {
		log, _ := os.ReadFile(filepath.Join(l.LogDir(node), "keeper.log"))
		return fmt.Errorf("host %s: %w\n%s", node, err, lastLines(string(log), 5))
	}
	if load != "" {
		return nil // not yet a host: become makes it one
	}
	return l.vmReady(ctx, node)
}

// startQEMU starts the machine's process, in the host's control group and the switch's network namespace.
func (l *Lab) startQEMU(node string, m machine) (process, error) {
	group := filepath.Join(l.nodeGroup(node), "keeper")
	if err := makeGroup(group); err != nil {
		return process{}, err
	}
	log, err := os.OpenFile(filepath.Join(l.LogDir(node), "keeper.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return process{}, err
	}
	defer log.Close()
	argv := append(append(l.vmEnter(), qemuProgram), m.arguments()...)
	cmd, err := inGroup(context.Background(), group, argv)
	if err != nil {
		return process{}, err
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return process{}, err
	}
	go func() { _ = cmd.Wait() }() // bury it; how it ended is in its log
	return identify(cmd.Process.Pid)
}

// letRun plugs a machine into the switch, lets it run, and waits until it lets root in.
func (l *Lab) letRun(ctx context.Context, node string, m machine) error {
	mon, err := openMonitor(ctx, m.monitor)
	if err != nil {
		return err
	}
	defer mon.close()
	if err := mon.awaitLoaded(ctx); err != nil {
		return err
	}
	err = withHandle(l.NetNS(switchNode), func(h *netlink.Handle) error {
		lo, loerr := h.LinkByName("lo")
		br, brerr := h.LinkByName(switchBridge)
		tap, err := h.LinkByName(m.tap)
		if err := errors.Join(loerr, brerr, err); err != nil {
			return err
		}
		return errors.Join(h.LinkSetUp(lo), h.LinkSetMaster(tap, br), h.LinkSetUp(tap))
	})
	if err != nil {
		return fmt.Errorf("plug into the switch: %w", err)
	}
	if l.rec.PortSecurity {
		if err := l.securePort(node); err != nil {
			return fmt.Errorf("port security: %w", err)
		}
	}
	if err := mon.do("cont", nil, nil); err != nil {
		return err
	}
	return awaitSSH(ctx, l.vmEnter(), l.vmImage(node).file("key"), m.port)
}

// become makes a copy of the saved machine the host node.
func (l *Lab) become(ctx context.Context, node string, fill filling) error {
	secret := make([]byte, 48)
	_, _ = rand.Read(secret) // never fails
	id, seed := hex.EncodeToString(secret[:16]), hex.EncodeToString(secret[16:])
	if err := l.vmShell(ctx, node, writeScript(l.vmNodeFiles(node, fill.token, fill.apt))); err != nil {
		return err
	}
	return l.vmShell(ctx, node, becomeScript, node, fmt.Sprint(time.Now().Unix()), id, seed)
}

// installDrydock installs the package, and starts the agent as an operator would.
func (l *Lab) installDrydock(ctx context.Context, node, deb string) error {
	f, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd, err := l.vmCommand(ctx, node, "sh", "-c", "cat >/root/drydock.deb")
	if err != nil {
		return err
	}
	cmd.Stdin = f
	if err := runQuietly(cmd); err != nil {
		return err
	}
	return l.vmShell(ctx, node, `set -e
DEBIAN_FRONTEND=noninteractive dpkg --force-confold --install /root/drydock.deb
rm /root/drydock.deb
systemctl enable --now drydock-agent.service
`)
}

// vmReady notes the boot that a machine is in, and that it may be used.
func (l *Lab) vmReady(ctx context.Context, node string) error {
	boot, err := l.vmBoot(ctx, node)
	if err != nil {
		return fmt.Errorf("host %s: %w", node, err)
	}
	p, err := readProcess(l.keeperRecord(node))
	if err != nil {
		return err
	}
	return writeJSON(l.runningRecord(node), running{Init: p, Boot: boot, Ready: true})
}

func (l *Lab) vmBoot(ctx context.Context, node string) (string, error) {
	cmd, err := l.vmCommand(ctx, node, "cat", "/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// rebootVM has the machine reboot itself, also where an agent holds off reboots, and waits until it lets the lab in after another boot.
func (l *Lab) rebootVM(ctx context.Context, node string) error {
	before, err := l.running(node)
	if err != nil {
		return err
	}
	if err := l.vmShell(ctx, node, "systemctl --no-block -i reboot"); err != nil {
		return fmt.Errorf("reboot host %s: %w", node, err)
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	for {
		boot, err := l.vmBoot(ctx, node)
		if err == nil && boot != before.Boot {
			return l.vmReady(ctx, node)
		}
		if perr := pause(ctx, 500*time.Millisecond); perr != nil {
			return fmt.Errorf("host %s did not come back: %w; see %s", node, perr, filepath.Join(l.LogDir(node), "serial.log"))
		}
	}
}

// vmShell runs a script in the machine.
func (l *Lab) vmShell(ctx context.Context, node, script string, args ...string) error {
	cmd, err := l.vmCommand(ctx, node, append([]string{"sh", "-s", "--"}, args...)...)
	if err != nil {
		return err
	}
	cmd.Stdin = strings.NewReader(script)
	return runQuietly(cmd)
}

// vmCommand is a command that runs in the machine and ends with the connection to it.
func (l *Lab) vmCommand(ctx context.Context, node string, argv ...string) (*exec.Cmd, error) {
	line := "exec env -C / setpriv --pdeathsig KILL --"
	for _, a := range argv {
		line += " " + shellQuote(a)
	}
	group := filepath.Join(l.nodeGroup(node), "system")
	if err := makeGroup(group); err != nil {
		return nil, err
	}
	return inGroup(ctx, group, append(l.vmEnter(), sshCommand(l.vmImage(node).file("key"), l.vmPort(node), line)...))
}

// inGroup is the command argv in the given control group.
func inGroup(ctx context.Context, group string, argv []string) (*exec.Cmd, error) {
	hs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	full := []string{"-c", joinScript, "sh"}
	for _, h := range hs {
		full = append(full, h.dir(group))
	}
	return exec.CommandContext(ctx, "/bin/sh", append(append(full, "--"), argv...)...), nil
}

// vmServices looks at the services that a machine is there for, and at the boot that it is in; neither is known of a machine
// that does not answer.
func (l *Lab) vmServices(ctx context.Context, node string) (boot string, states []serviceState) {
	names := []string{"containerd", "drydock-agent"}
	cmd, err := l.vmCommand(ctx, node, "sh", "-c", "cat /proc/sys/kernel/random/boot_id; systemctl show --property=MainPID,NRestarts "+strings.Join(names, " "))
	if err != nil {
		return "", nil
	}
	out, _ := cmd.Output()
	boot, rest, _ := strings.Cut(string(out), "\n")
	return boot, parseServices(names, rest)
}

// parseServices reads what systemctl says about each of the names, in order.
func parseServices(names []string, text string) []serviceState {
	states := make([]serviceState, len(names))
	blocks := strings.Split(strings.TrimSpace(text), "\n\n")
	for i, name := range names {
		states[i].Name = name
		if i >= len(blocks) {
			continue
		}
		for line := range strings.Lines(blocks[i]) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch key {
			case "MainPID":
				fmt.Sscan(value, &states[i].PID)
			case "NRestarts":
				fmt.Sscan(value, &states[i].Restarts)
			}
		}
	}
	return states
}
