package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"drydock/lab/images"
)

// podman moves a container with podman's own checkpoint archives.
type podman struct {
	*hosts
	id string
}

const podmanAddress, podmanMAC = "10.77.100.1", "02:77:00:00:64:01"

// podmanSetup gives a host a podman that keeps its containers on the real file system and all else in memory, a network
// on the host's bridge, and the image. podman refuses to make a network with the host's own subnet, so that is put in after.
const podmanSetup = `
mkdir -p ` + memoryDir + ` ` + diskDir + `
cat >` + memoryDir + `/podman <<'end'
#!/bin/sh
export PODMAN_IGNORE_CGROUPSV1_WARNING=1 TMPDIR=` + memoryDir + `
exec podman --root ` + diskDir + `/podman --runroot ` + memoryDir + `/runroot --tmpdir ` + memoryDir + `/libpod \
	--runtime runc --cgroup-manager cgroupfs --events-backend none --network-backend netavark "$@"
end
chmod +x ` + memoryDir + `/podman
cd ` + memoryDir + `
./podman network create --driver bridge --opt mode=unmanaged --interface-name br0 --subnet 10.99.0.0/16 --disable-dns bench
sed -i 's/10\.99\./10.77./g' /etc/containers/networks/bench.json
./podman load --quiet --input ` + diskDir + `/redis.tar
`

const podmanStart = `
cd ` + memoryDir + `
./podman rm --force --ignore --time 0 redis >/dev/null
./podman run --detach --name redis --network bench --ip ` + podmanAddress + ` --mac-address ` + podmanMAC + ` --user 0:0 \
	--cgroup-parent "$1" --log-driver none "$2"
`

// podmanDump keeps CRIU's statistics, which would be deleted otherwise.
const podmanDump = `
cd ` + memoryDir + `
exec ./podman container checkpoint --export podman.tar --compress none --tcp-established --file-locks --keep redis
`

const podmanRestore = `
cd ` + memoryDir + `
exec ./podman container restore --import podman.tar --tcp-established --file-locks --keep
`

const podmanTidy = `
cd ` + memoryDir + `
rm -f podman.tar
./podman rm --force --ignore --time 0 redis
`

// newPodman prepares every host.
func newPodman(ctx context.Context, h *hosts) (*podman, error) {
	for _, host := range h.Hosts() {
		if err := os.MkdirAll(h.disk(host), 0o755); err != nil {
			return nil, err
		}
		archive, err := os.ReadFile(h.set.Path(images.Redis))
		if err == nil {
			err = os.WriteFile(h.disk(host, "redis.tar"), archive, 0o644)
		}
		if err != nil {
			return nil, err
		}
		if _, err := h.sh(ctx, host, podmanSetup); err != nil {
			return nil, fmt.Errorf("podman: %w", err)
		}
	}
	return &podman{hosts: h}, nil
}

func (p *podman) name() string    { return "podman" }
func (p *podman) address() string { return podmanAddress }

func (p *podman) start(ctx context.Context, host string) (err error) {
	for _, other := range p.Hosts() {
		if err := p.tidy(ctx, other); err != nil {
			return err
		}
	}
	p.id, err = p.sh(ctx, host, podmanStart, "/drydock-lab/"+p.Name()+"/podman", p.set.Reference(images.Redis))
	return err
}

func (p *podman) move(ctx context.Context, from, to string) (time.Duration, error) {
	if _, err := p.sh(ctx, from, podmanDump); err != nil {
		return 0, fmt.Errorf("podman checkpoint: %w", err)
	}
	if err := p.copy(ctx, from, to, "podman.tar"); err != nil {
		return 0, err
	}
	if _, err := p.sh(ctx, to, podmanRestore); err != nil {
		return 0, fmt.Errorf("podman restore: %w", err)
	}
	return freezeBetween(p.statistics(from), p.statistics(to))
}

func (p *podman) statistics(host string) string {
	return filepath.Join(p.disk(host), "podman", "overlay-containers", p.id, "userdata")
}

func (p *podman) tidy(ctx context.Context, from string) error {
	_, err := p.sh(ctx, from, podmanTidy)
	return err
}
