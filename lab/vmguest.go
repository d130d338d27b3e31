package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// vmFile is a file in a machine's root.
type vmFile struct{ path, text string }

// Addresses of the line on which the lab talks to a machine. It is not on the switch: a machine that is cut off from the others
// can still be looked at. Each machine has the same address on it, as each is alone there.
const (
	lineAddress = "10.0.2.15/24"
	lineLink    = "eth1"
)

// vmFiles are the same in every machine.
func vmFiles() []vmFile {
	return []vmFile{
		{"/etc/fstab", "/dev/vda1 / ext4 rw,noatime,discard 0 1\n"},
		{"/etc/hostname", "vm\n"},
		{"/etc/initramfs-tools/conf.d/drydock", "MODULES=list\nCOMPRESS=zstd\nRESUME=none\n"},
		{"/etc/initramfs-tools/modules", "virtio_pci\nvirtio_blk\next4\ni6300esb\n"},
		{"/etc/default/grub", `GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=
GRUB_CMDLINE_LINUX="` + kernelArguments + `"
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_DISABLE_OS_PROBER=true
GRUB_DISABLE_LINUX_UUID=true
`},
		{"/etc/containerd/config.toml", containerdConfig},
		{"/etc/systemd/network/50-line.network", "[Match]\nName=" + lineLink + "\n[Network]\nAddress=" + lineAddress + "\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"},
		{"/etc/systemd/networkd.conf.d/drydock.conf", "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n"},
		{"/etc/systemd/journald.conf.d/drydock.conf", "[Journal]\nStorage=persistent\nSystemMaxUse=32M\n"},
		{"/etc/ssh/sshd_config.d/drydock.conf", "UseDNS no\nUsePAM no\nPasswordAuthentication no\nPrintMotd no\n"},
		{"/etc/sysctl.d/drydock-lab.conf", "fs.pipe-user-pages-soft = 0\nfs.pipe-max-size = 16777216\n"},
	}
}

// network is what makes a machine the host that it is on the switch: a bridge over its link, with its address.
func (l *Lab) vmNetwork(node string) []vmFile {
	return []vmFile{
		{"/etc/systemd/network/20-bridge.netdev", fmt.Sprintf("[NetDev]\nName=%s\nKind=bridge\nMACAddress=%s\n", hostBridge, l.mac(node, hostBridge))},
		{"/etc/systemd/network/20-bridge.network", fmt.Sprintf(
			"[Match]\nName=%s\n[Network]\nAddress=%s/%d\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n", hostBridge, l.Address(node), networkBits)},
		{"/etc/systemd/network/30-uplink.network", fmt.Sprintf(
			"[Match]\nName=%s\n[Link]\nMACAddress=%s\n[Network]\nBridge=%s\nLinkLocalAddressing=no\n", uplink, l.mac(node, uplink), hostBridge)},
	}
}

// vmAgentConfig leaves what the package's unit and defaults say as it is.
func (l *Lab) vmAgentConfig(node string) string {
	return fmt.Sprintf(`name: %s
listen: %s:7444
controller: [%s]
network: {bridge: %s}
join: {token-file: /etc/drydock/join-token}
packages: {refresh-interval: %s}
`, node, l.Address(node), strings.Join(l.controllerURLs(node), ", "), hostBridge, l.refreshInterval())
}

// files are what a machine gets when it becomes a host of the lab.
func (l *Lab) vmNodeFiles(node, token string, apt map[string]string) []vmFile {
	files := append(l.vmNetwork(node),
		vmFile{"/etc/hostname", node + "\n"},
		vmFile{"/etc/hosts", l.files(node)["/etc/hosts"]},
		vmFile{"/etc/drydock/agent.yaml", l.vmAgentConfig(node)},
	)
	for _, path := range slices.Sorted(maps.Keys(apt)) {
		files = append(files, vmFile{path, apt[path]})
	}
	if token != "" {
		files = append(files, vmFile{"/etc/drydock/join-token", token + "\n"})
	}
	return files
}

// becomeScript turns the machine that was saved, and which every host is a copy of, into one host: nothing that must be its own
// is left the same as another's. Its arguments are the name, the time, a machine id, and random bytes.
const becomeScript = `set -e
date -s "@$2" >/dev/null
echo "$3" >/etc/machine-id
printf %s "$4" >/dev/urandom
perl -e 'open(F, ">", "/dev/random") or die; ioctl(F, 0x5207, 0) or die "reseed: $!"'
cat /proc/sys/kernel/random/uuid >/run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
systemctl restart systemd-journald
hostname "$1"
modprobe -a bridge br_netfilter 2>/dev/null || true
for f in /proc/sys/net/bridge/bridge-nf-call-*tables; do [ ! -e "$f" ] || echo 0 >"$f"; done
ip link set ` + uplink + ` down
networkctl reload
for i in $(seq 100); do
    ip link set ` + uplink + ` up 2>/dev/null || true
    [ -z "$(ip -o -4 address show dev ` + hostBridge + ` 2>/dev/null)" ] || break
    sleep 0.1
done
ip -o -4 address show dev ` + hostBridge + ` | grep -q .
`

// writeScript is a shell script that writes the files.
func writeScript(files []vmFile) string {
	var script strings.Builder
	script.WriteString("set -e\numask 022\n")
	for _, f := range files {
		fmt.Fprintf(&script, "mkdir -p \"$(dirname %s)\"\nprintf %%s %s >%s\n", shellQuote(f.path), shellQuote(f.text), shellQuote(f.path))
	}
	return script.String()
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
