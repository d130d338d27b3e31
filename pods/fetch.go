package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fetcher brings the blobs of one image into a content store.
type fetcher struct {
	store content.Store
	open  OpenBlob

	mu    sync.Mutex
	bytes int64
}

func (f *fetcher) handler() images.HandlerFunc {
	return func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if err := f.fetch(ctx, desc); err != nil {
			return nil, err
		}
		return images.SetChildrenMappedLabels(f.store, images.ChildrenHandler(f.store), nil)(ctx, desc)
	}
}

func (f *fetcher) fetch(ctx context.Context, desc ocispec.Descriptor) error {
	writer, err := content.OpenWriter(ctx, f.store, content.WithRef("drydock-fetch-"+desc.Digest.String()), content.WithDescriptor(desc))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	defer writer.Close()
	blob, err := f.open(ctx, desc.Digest.String())
	if err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	defer blob.Close()
	// A writer of an earlier, interrupted fetch starts over: blobs are read from their beginning.
	if err := writer.Truncate(0); err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	n, err := io.Copy(writer, blob)
	if err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	if err := writer.Commit(ctx, desc.Size, desc.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	f.mu.Lock()
	f.bytes += n
	f.mu.Unlock()
	return nil
}

// mediaTypeOf tells a manifest from an index by what it holds, since both need not say.
func mediaTypeOf(data []byte) (string, error) {
	var probe struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Layers    json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(data, &probe); err != nil {
		return "", err
	}
	switch {
	case probe.MediaType != "":
		return probe.MediaType, nil
	case probe.Manifests != nil:
		return ocispec.MediaTypeImageIndex, nil
	case probe.Layers != nil:
		return ocispec.MediaTypeImageManifest, nil
	}
	return "", errors.New("neither a manifest nor an index of an image")
}
