package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const qemuProgram = "qemu-system-x86_64"

// What one virtual machine may use of this one: memory for the guest and, emulated, for translated code.
const (
	vmMemoryMiB    = 768
	vmTranslateMiB = 192
	vmProcessors   = 2
)

// machineArguments are those that decide what the guest sees: the same when a machine is saved and when it is loaded. port is
// where on the loopback of QEMU's network namespace the guest's SSH server is.
func machineArguments(accel string, port int) []string {
	how, cpu := accel, "max"
	if accel == accelTCG {
		how = fmt.Sprintf("tcg,thread=multi,tb-size=%d", vmTranslateMiB)
		// An interrupt at the wrong moment leaves garbage in the flags of an emulated compare-and-exchange of 16 bytes, which the
		// kernel's allocator does all the time: https://github.com/ClangBuiltLinux/linux/issues/1437. Without it the kernel takes a lock.
		cpu += ",-cx16"
	}
	return []string{
		"-machine", "q35", "-accel", how, "-cpu", cpu, "-smp", fmt.Sprint(vmProcessors), "-m", fmt.Sprint(vmMemoryMiB),
		"-nodefaults", "-display", "none",
		"-device", "virtio-blk-pci,drive=disk",
		"-device", "virtio-rng-pci",
		"-device", "vmgenid,guid=auto",
		"-device", "i6300esb", "-action", "watchdog=reset",
		"-netdev", fmt.Sprintf("user,id=line,restrict=on,hostfwd=tcp:127.0.0.1:%d-:22", port),
	}
}

// machine is one virtual machine, to be started.
type machine struct {
	accel   string
	disk    string           // qcow2
	tap     string           // the network device that QEMU makes, in its own network namespace
	mac     net.HardwareAddr // of the guest's end
	port    int              // see machineArguments
	monitor string           // socket
	serial  string           // file
	load    string           // what monitor.save wrote, to go on from; empty: boot
}

func (m machine) arguments() []string {
	args := append(machineArguments(m.accel, m.port),
		"-drive", "id=disk,if=none,format=qcow2,cache=unsafe,discard=unmap,file="+m.disk,
		"-netdev", "tap,id=switch,script=no,downscript=no,ifname="+m.tap,
		"-device", "virtio-net-pci,netdev=switch,mac="+m.mac.String(),
		"-device", "virtio-net-pci,netdev=line,mac=52:54:00:00:00:01",
		"-qmp", "unix:"+m.monitor+",server=on,wait=off",
		"-chardev", "file,id=serial,append=on,path="+m.serial, "-serial", "chardev:serial",
	)
	if m.load != "" {
		args = append(args, "-incoming", "exec:cat "+m.load)
	}
	return args
}

// sshCommand runs a command line in the machine behind port, from inside the network namespace that its QEMU runs in.
func sshCommand(key string, port int, line string) []string {
	return []string{
		"ssh", "-F", "none", "-i", key, "-p", fmt.Sprint(port), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10", "-o", "BatchMode=yes",
		"-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=6", "root@127.0.0.1", line,
	}
}

// Accelerators of QEMU.
const (
	accelKVM = "kvm"
	accelTCG = "tcg"
)

// trialLimit is many times what the first steps of a kernel take on a processor.
const trialLimit = 15 * time.Second

// findAccelerator returns accelKVM where a trial boot of the root's kernel gets to the end of its initialization with it, as
// there are machines whose KVM device starts guests that then go nowhere.
func findAccelerator(ctx context.Context, root string) (string, error) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return accelTCG, nil
	}
	kernels, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(kernels) == 0 {
		return "", fmt.Errorf("no kernel in %s: %w", root, err)
	}
	trial, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(trial, qemuProgram, "-machine", "q35", "-accel", accelKVM, "-cpu", "max", "-m", "256", "-nodefaults",
		"-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", kernels[0], "-append", "console=ttyS0 panic=-1")
	cmd.Stdout = &out
	cmd.WaitDelay = time.Second
	_ = cmd.Run() // a kernel without a root ends in a panic; what it said before counts
	if err := context.Cause(ctx); err != nil {
		return "", err
	}
	if strings.Contains(out.String(), "Unable to mount root fs") {
		return accelKVM, nil
	}
	return accelTCG, nil
}

// bootOnce boots the disk and saves the machine once its services run, with nothing on the switch yet.
func (i vmImage) bootOnce(ctx context.Context) error {
	accel, err := i.accel()
	if err != nil {
		return err
	}
	overlay := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "disk.raw", i.file("booted.qcow2"))
	if err := runQuietly(overlay); err != nil {
		return fmt.Errorf("disk of the virtual machines: %w", err)
	}
	m := machine{
		accel: accel, disk: i.file("booted.qcow2"), tap: "vm0", mac: net.HardwareAddr{0x02, 0, 0, 0, 0, 1}, port: firstPort,
		monitor: i.file("monitor.sock"), serial: i.file("serial.log"),
	}
	var said bytes.Buffer
	inNet := []string{"--net", "--", "sh", "-c", `ip link set lo up && exec "$@"`, "sh", qemuProgram}
	cmd := exec.CommandContext(ctx, "unshare", append(inNet, m.arguments()...)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return onOwnThread(func() error {
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start QEMU: %w", err)
		}
		err := i.saveBooted(ctx, m, cmd.Process.Pid)
		if err != nil {
			_ = cmd.Process.Kill()
			serial, _ := os.ReadFile(m.serial)
			err = fmt.Errorf("boot the virtual machines' disk: %w\n%s\n%s", err, lastLines(said.String(), 5), lastLines(string(serial), 15))
		}
		if werr := cmd.Wait(); err == nil && werr != nil {
			err = fmt.Errorf("QEMU: %w:\n%s", werr, lastLines(said.String(), 5))
		}
		return err
	})
}

// bootLimit is for an emulated machine on a machine that is very busy.
const bootLimit = 6 * time.Minute

// settledScript waits for the end of the boot, and leaves as little as possible in memory.
const settledScript = `systemctl is-system-running --wait >/dev/null
systemctl is-active containerd ssh systemd-networkd || { systemctl --failed; exit 1; }
update-grub || exit 1
ip link set ` + uplink + ` down
sync
echo 3 >/proc/sys/vm/drop_caches
`

func (i vmImage) saveBooted(ctx context.Context, m machine, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	enter := []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid), "--"}
	if err := awaitSSH(ctx, enter, i.file("key"), m.port); err != nil {
		return err
	}
	argv := append(enter, sshCommand(i.file("key"), m.port, settledScript)...)
	if err := runQuietly(exec.CommandContext(ctx, argv[0], argv[1:]...)); err != nil {
		return err
	}
	mon, err := openMonitor(ctx, m.monitor)
	if err != nil {
		return err
	}
	defer mon.close()
	return mon.save(ctx, i.file("booted"))
}

// awaitSSH waits until the machine lets root in.
func awaitSSH(ctx context.Context, enter []string, key string, port int) error {
	argv := append(append([]string{}, enter...), sshCommand(key, port, "true")...)
	for {
		err := exec.CommandContext(ctx, argv[0], argv[1:]...).Run()
		if err == nil {
			return nil
		}
		if perr := pause(ctx, 200*time.Millisecond); perr != nil {
			return fmt.Errorf("the machine does not let root in: %w (%w)", perr, err)
		}
	}
}

func (i vmImage) accel() (string, error) {
	text, err := os.ReadFile(i.file("accel"))
	return strings.TrimSpace(string(text)), err
}
