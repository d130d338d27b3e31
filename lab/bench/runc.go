package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"drydock/lab/images"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// runc moves a container with nothing but runc, in a network namespace made by hand.
type runc struct {
	*hosts
	id, ip, mac string
	// options are CRIU's, beside runc's own.
	options string
	// floor, where set, collects what CRIU itself took.
	floor *[]time.Duration
}

// makeNetwork makes a pod's network by hand, but does not plug it in.
const makeNetwork = `
id=$1 ip=$2 mac=$3
ip netns del "$id" 2>/dev/null || true
ip link del "b-$id" 2>/dev/null || true
ip netns add "$id"
ip link add "b-$id" type veth peer name eth0 address "$mac" netns "$id"
ip -n "$id" link set lo up
ip -n "$id" addr add "$ip/16" dev eth0
ip -n "$id" link set eth0 up
ip link set "b-$id" up
`

const plugIn = `
ip link set "b-$id" master br0
nsenter --net="/run/netns/$id" arping -q -A -c 1 -I eth0 "$ip" >/dev/null 2>&1 &
`

const runcClear = `
id=$1
runc --root ` + memoryDir + `/runc delete --force "$id" 2>/dev/null || true
rm -rf "` + memoryDir + `/$id"
mkdir -p "` + memoryDir + `/$id/images" "` + memoryDir + `/$id/work"
`

const runcStart = `
runc --root ` + memoryDir + `/runc run --detach --bundle "` + diskDir + `/$id" "$id" </dev/null >/dev/null 2>&1
`

const runcDump = `
id=$1
cd "` + memoryDir + `/$id"
runc --root ` + memoryDir + `/runc checkpoint --image-path "$PWD/images" --work-path "$PWD/work" --tcp-established --file-locks "$id"
ip link set "b-$id" nomaster
`

const runcRestore = `
id=$1 ip=$2
cd "` + memoryDir + `/$id"
runc --root ` + memoryDir + `/runc restore --detach --bundle "` + diskDir + `/$id" --image-path "$PWD/images" --work-path "$PWD/work" \
	--tcp-established --file-locks "$id" </dev/null >runc.log 2>&1 || { cat runc.log work/restore.log | grep -i error >&2; exit 1; }
` + plugIn

// floorOptions are those that Drydock gives CRIU.
const floorOptions = `tcp-established
network-lock skip
file-locks
link-remap
manage-cgroups=ignore
`

// newRunc makes the bundle on every host: the pod's specification, so that all contenders' containers are alike.
func newRunc(ctx context.Context, h *hosts, number int, like *drydock, on string, options string) (*runc, error) {
	r := &runc{
		hosts: h, id: fmt.Sprintf("runc%d", number), ip: fmt.Sprintf("10.77.100.1%d", number),
		mac: fmt.Sprintf("02:77:00:00:65:%02x", number), options: options,
	}
	spec, err := r.specification(ctx, like.pod, on)
	if err != nil {
		return nil, err
	}
	for _, host := range h.Hosts() {
		root := h.disk(host, r.id, "rootfs")
		if err := os.MkdirAll(root, 0o755); err != nil {
			return nil, err
		}
		if _, err := h.set.Unpack(ctx, images.Redis, root); err != nil {
			return nil, err
		}
		for name, content := range map[string][]byte{"config.json": spec, "criu.conf": []byte(options)} {
			if err := os.WriteFile(h.disk(host, r.id, name), content, 0o644); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// specification is the pod's, without what only Drydock has.
func (r *runc) specification(ctx context.Context, pod, host string) ([]byte, error) {
	text, err := r.sh(ctx, host, `ctr -n drydock containers info "$(ctr -n drydock containers ls -q | grep "^$1" | head -n 1)"`, pod)
	if err != nil {
		return nil, fmt.Errorf("specification of pod %s: %w", pod, err)
	}
	var info struct{ Spec *specs.Spec }
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		return nil, fmt.Errorf("specification of pod %s: %w", pod, err)
	}
	spec := info.Spec
	spec.Root.Path, spec.Annotations, spec.Hooks = "rootfs", nil, nil
	if r.options != "" {
		spec.Annotations = map[string]string{"org.criu.config": filepath.Join(diskDir, r.id, "criu.conf")}
	}
	spec.Linux.CgroupsPath = "/drydock-lab/" + r.Name() + "/" + r.id
	for i, n := range spec.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace {
			spec.Linux.Namespaces[i].Path = "/run/netns/" + r.id
		}
	}
	kept := spec.Mounts[:0]
	for _, m := range spec.Mounts {
		if m.Type != "bind" {
			kept = append(kept, m)
		}
	}
	spec.Mounts = kept
	return json.Marshal(spec)
}

func (r *runc) name() string    { return "runc" }
func (r *runc) address() string { return r.ip }

func (r *runc) start(ctx context.Context, host string) error {
	for _, other := range r.Hosts() {
		if err := r.tidy(ctx, other); err != nil {
			return err
		}
	}
	_, err := r.sh(ctx, host, "id=$1 ip=$2\n"+runcStart+plugIn, r.id, r.ip)
	return err
}

func (r *runc) move(ctx context.Context, from, to string) (time.Duration, error) {
	if _, err := r.sh(ctx, from, runcDump, r.id); err != nil {
		return 0, fmt.Errorf("runc checkpoint: %w", err)
	}
	if err := r.copy(ctx, from, to, filepath.Join(r.id, "images")); err != nil {
		return 0, err
	}
	if _, err := r.sh(ctx, to, runcRestore, r.id, r.ip); err != nil {
		return 0, fmt.Errorf("runc restore: %w", err)
	}
	dump, err := r.memory(from, r.id, "work")
	if err != nil {
		return 0, err
	}
	restore, err := r.memory(to, r.id, "work")
	if err != nil {
		return 0, err
	}
	if r.floor != nil {
		if err := r.noteFloor(dump, restore); err != nil {
			return 0, err
		}
	}
	return freezeBetween(dump, restore)
}

func (r *runc) noteFloor(dump, restore string) error {
	first, err := logged(filepath.Join(dump, "dump.log"))
	if err != nil {
		return err
	}
	second, err := logged(filepath.Join(restore, "restore.log"))
	if err == nil {
		*r.floor = append(*r.floor, first+second)
	}
	return err
}

// tidy makes the network anew: CRIU leaves its lock on the source's.
func (r *runc) tidy(ctx context.Context, from string) error {
	_, err := r.sh(ctx, from, runcClear+makeNetwork, r.id, r.ip, r.mac)
	return err
}
