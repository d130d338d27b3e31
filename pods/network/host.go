package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"drydock/internal/netdump"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// ErrNotFound says that the host has no network of that pod.
var ErrNotFound = errors.New("no such pod network on this host")

// Host is the network of one host: the directory where pods' namespaces are pinned, and the namespace that holds the bridge.
// It is safe for concurrent use on different pods.
type Host struct {
	dir string
	ns  netns.NsHandle
	nl  *netlink.Handle
}

// NewHost returns the host whose network namespace the calling process is in. Pods' namespaces are pinned in dir
// (for instance /run/drydock/netns), which is made when it is first needed. The caller closes the host.
func NewHost(dir string) (*Host, error) {
	return NewHostAt(dir, "/proc/self/ns/net")
}

// NewHostAt is NewHost for a host whose network namespace is the one at path.
func NewHostAt(dir, path string) (*Host, error) {
	ns, handle, _, err := open(path)
	if err != nil {
		return nil, err
	}
	return &Host{dir: dir, ns: ns, nl: handle}, nil
}

// Close gives back the host's descriptors. Networks and holds of this host must not be used afterwards.
func (h *Host) Close() error {
	h.nl.Close()
	return h.ns.Close()
}

// Create makes the pod's network, unplugged: a pinned namespace with lo and eth0 up, addresses and default route set. It
// completes what an earlier call began, and changes nothing where everything is already as the configuration says.
func (h *Host) Create(ctx context.Context, cfg Config) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := &Network{host: h, cfg: cfg}
	if err := pin(n.Path()); err != nil {
		return nil, fmt.Errorf("network of pod %s: %w", cfg.Pod, err)
	}
	if err := n.wire(); err != nil {
		return nil, fmt.Errorf("network of pod %s: %w", cfg.Pod, err)
	}
	return n, nil
}

// Open returns the network of a pod that Create has finished, or an error that is ErrNotFound.
func (h *Host) Open(ctx context.Context, pod string) (*Network, error) {
	if err := validName(pod); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := &Network{host: h, cfg: Config{Pod: pod}}
	pinned, err := isPinned(n.Path())
	if err != nil {
		return nil, err
	}
	if !pinned {
		return nil, fmt.Errorf("pod %s: %w", pod, ErrNotFound)
	}
	if n.cfg, err = n.readConfig(); err != nil {
		return nil, fmt.Errorf("network of pod %s: %w", pod, err)
	}
	return n, nil
}

// List names every pod of which this host has a network, or a part of one that a crash left, sorted.
func (h *Host) List(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var pods []string
	entries, err := os.ReadDir(h.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		if validName(entry.Name()) == nil {
			pods = append(pods, entry.Name())
		}
	}
	links, err := netdump.Whole(h.nl.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		if pod, _, ok := parseLabel(link.Attrs().Alias); ok {
			pods = append(pods, pod)
		}
	}
	slices.Sort(pods)
	return slices.Compact(pods), nil
}

// Remove takes away everything of the pod's network: first its way out, so that nothing of the pod is sent while it ends,
// then a holding port, then the namespace. It is safe to call twice and after a crash at any point. The namespace itself
// lives on, without any interface but lo, for as long as a process is in it.
func (h *Host) Remove(ctx context.Context, pod string) error {
	if err := validName(pod); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(
		h.deleteLink(pod, outerName(pod)),
		h.Sweep(ctx, pod),
		h.EndSteer(ctx, pod),
		unpin(filepath.Join(h.dir, pod)),
	)
}

// Sweep removes the holding port that a process left when it ended while it held the pod's packets. It must not be called
// while a Hold or a Catch of that pod is in use.
func (h *Host) Sweep(ctx context.Context, pod string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(endDetour(ctx, h.ns, pod), h.deleteLink(pod, holdName(pod)), h.deleteLink(pod, tapName(pod)), h.sweepLoopback(pod))
}

// deleteLink deletes the named link if it is the pod's: labelled so, or not labelled yet because a crash came between.
func (h *Host) deleteLink(pod, name string) error {
	link, err := findLink(h.nl, name)
	if link == nil {
		return err
	}
	owner, _, labelled := parseLabel(link.Attrs().Alias)
	if link.Type() != "veth" || (labelled && owner != pod) || (!labelled && link.Attrs().Alias != "") {
		return fmt.Errorf("link %s is not of pod %s (alias %q): remove it by hand", name, pod, link.Attrs().Alias)
	}
	if err := h.nl.LinkDel(link); err != nil && !isGone(err) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// sweepLoopback lets the pod's loopback go if its namespace still exists.
func (h *Host) sweepLoopback(pod string) error {
	path := filepath.Join(h.dir, pod)
	pinned, err := isPinned(path)
	if err != nil || !pinned {
		return err
	}
	return clearLoopback(path, nil)
}

func findLink(handle *netlink.Handle, name string) (netlink.Link, error) {
	link, err := handle.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up link %s: %w", name, err)
	}
	return link, nil
}

const labelPrefix = "drydock:"

// label is the alias of a link of this pod. The bridge, where given, is kept in it, because an unplugged link has none.
func label(pod, bridge string) string {
	if bridge == "" {
		return labelPrefix + pod
	}
	return labelPrefix + pod + "@" + bridge
}

func parseLabel(alias string) (pod, bridge string, ok bool) {
	rest, ok := strings.CutPrefix(alias, labelPrefix)
	if !ok {
		return "", "", false
	}
	pod, bridge, _ = strings.Cut(rest, "@")
	return pod, bridge, validName(pod) == nil
}
