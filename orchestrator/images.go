package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/distribution/reference"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/store"
)

// familiar is a reference in its one full form: docker.io/library/redis:7 for redis:7.
func familiar(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", invalid("%q is no image reference: write for example redis:7 or registry.example.com/app:1", ref)
	}
	return named.String(), nil
}

// noteImages remembers what references stand for, and that a host has them.
func (c *Controller) noteImages(ctx context.Context, host string, images []*drydockv1.Image) error {
	for _, image := range images {
		full, err := familiar(image.GetReference())
		if err != nil {
			return err
		}
		_, err = store.Update(ctx, c.store, imageKey(full), func(item store.Item[*drydockv1.ImageRecord]) error {
			record := item.Value
			if record.GetDigest() != image.GetDigest() {
				record.Hosts = nil
			}
			record.Reference, record.Digest, record.SizeBytes = full, image.GetDigest(), image.GetSizeBytes()
			if !slices.Contains(record.Hosts, host) {
				record.Hosts = append(record.Hosts, host)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("note image %s: %w", full, err)
		}
	}
	return nil
}

// holders are the hosts that have each image, by digest.
func (c *Controller) holders(ctx context.Context, hosts map[string]host) (map[string][]string, []*drydockv1.ImageRecord, error) {
	items, err := store.List[drydockv1.ImageRecord](ctx, c.store, keyImages)
	if err != nil {
		return nil, nil, err
	}
	byDigest := make(map[string][]string)
	add := func(digest, host string) {
		if _, known := hosts[host]; known && !slices.Contains(byDigest[digest], host) {
			byDigest[digest] = append(byDigest[digest], host)
		}
	}
	records := make([]*drydockv1.ImageRecord, 0, len(items))
	for _, item := range items {
		records = append(records, item.Value)
		for _, host := range item.Value.GetHosts() {
			add(item.Value.GetDigest(), host)
		}
	}
	for _, name := range sortedKeys(hosts) {
		for _, image := range hosts[name].report.GetImages() {
			add(image.GetDigest(), name)
		}
	}
	return byDigest, records, nil
}

func (c *Controller) listImages(ctx context.Context) ([]*drydockv1.Image, error) {
	hosts, err := c.hosts(ctx)
	if err != nil {
		return nil, err
	}
	byDigest, records, err := c.holders(ctx, hosts)
	if err != nil {
		return nil, err
	}
	images := make([]*drydockv1.Image, 0, len(records))
	for _, record := range records {
		images = append(images, &drydockv1.Image{
			Reference: record.GetReference(), Digest: record.GetDigest(), SizeBytes: record.GetSizeBytes(), Hosts: byDigest[record.GetDigest()],
		})
	}
	return images, nil
}

// resolve fills in the digests of a spec's images, once and for all.
func (c *Controller) resolve(ctx context.Context, spec *drydockv1.PodSpec) error {
	var reasons []*drydockv1.Refusal
	for _, container := range spec.GetContainers() {
		full, err := familiar(container.GetImage())
		if err != nil {
			return err
		}
		item, err := store.Get[drydockv1.ImageRecord](ctx, c.store, imageKey(full))
		if errors.Is(err, store.ErrNotFound) {
			reasons = append(reasons, because("image "+container.GetImage()+" is not known",
				"import it: `drydock image import FILE --as "+container.GetImage()+"`, or pull it"))
			continue
		} else if err != nil {
			return err
		}
		if container.GetImageDigest() != "" && container.GetImageDigest() != item.Value.GetDigest() {
			reasons = append(reasons, because(fmt.Sprintf("image %s is %s, not %s", container.GetImage(), item.Value.GetDigest(), container.GetImageDigest()),
				"ask for the digest that is there, or import the other one under another reference"))
		}
		container.ImageDigest = item.Value.GetDigest()
	}
	return refuse("run pod "+spec.GetName(), reasons...)
}

// imageHosts are the hosts that a spec's images can be fetched from.
func (c *Controller) imageHosts(ctx context.Context, spec *drydockv1.PodSpec) ([]*drydockv1.Peer, error) {
	hosts, err := c.hosts(ctx)
	if err != nil {
		return nil, err
	}
	byDigest, _, err := c.holders(ctx, hosts)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, container := range spec.GetContainers() {
		names = append(names, byDigest[container.GetImageDigest()]...)
	}
	slices.Sort(names)
	var peers []*drydockv1.Peer
	for _, name := range slices.Compact(names) {
		if h := hosts[name]; h.answers() {
			peers = append(peers, h.peer())
		}
	}
	return peers, nil
}

// importTarget is the host that takes an image first.
func (c *Controller) importTarget(ctx context.Context, name string) (host, error) {
	hosts, err := c.hosts(ctx)
	if err != nil {
		return host{}, err
	}
	if name == "" {
		return choosePlace("take the image", hosts, need{}, nil)
	}
	h, ok := hosts[name]
	if !ok {
		return host{}, noHost(name)
	}
	if !h.answers() {
		return host{}, refuse("take the image on "+name, h.why())
	}
	return h, nil
}
