package pods

import (
	"context"
	"errors"
	"fmt"
	"io"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	snapshotter = "overlayfs"
	// referenceLabel keeps the name that an operator gave to an image. In containerd every image is named by its digest,
	// so that a name which comes to mean something else changes no pod.
	referenceLabel = "drydock/reference"
)

// Image is one image in this host's content store.
type Image struct {
	Reference string
	Digest    string
	Size      int64
}

// Import reads an OCI or docker archive into the content store and unpacks it. The name in the archive is replaced by
// reference unless that is empty. An archive that is cut or corrupt leaves nothing.
func (r *Runtime) Import(ctx context.Context, archive io.Reader, reference string) ([]Image, error) {
	ctx, done, err := r.lease(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	imported, err := r.client.Import(ctx, archive, containerd.WithImportPlatform(platforms.DefaultStrict()))
	if err != nil {
		return nil, fmt.Errorf("the archive is not a complete OCI or docker archive, write it again: %w", err)
	}
	if len(imported) == 0 {
		return nil, errors.New("the archive names no image: save it with a name, or give one with --as")
	}
	var result []Image
	for _, img := range imported {
		name := reference
		if name == "" {
			name = img.Name
		}
		if len(imported) > 1 && reference != "" {
			return nil, fmt.Errorf("the archive holds %d images: import it without a name of your own", len(imported))
		}
		one, err := r.keep(ctx, img.Target, name)
		if err != nil {
			return nil, err
		}
		if img.Name != one.Digest {
			if err := r.client.ImageService().Delete(ctx, img.Name); err != nil && !errdefs.IsNotFound(err) {
				return nil, err
			}
		}
		result = append(result, one)
	}
	return result, nil
}

// Pull gets an image from a registry.
func (r *Runtime) Pull(ctx context.Context, reference string) (Image, error) {
	ctx, done, err := r.lease(ctx)
	if err != nil {
		return Image{}, err
	}
	defer done()
	img, err := r.client.Fetch(ctx, reference, containerd.WithPlatform(platforms.DefaultString()))
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w; where the registry cannot be reached, import an archive instead", reference, err)
	}
	one, err := r.keep(ctx, img.Target, reference)
	if err != nil {
		return Image{}, err
	}
	return one, r.client.ImageService().Delete(ctx, img.Name)
}

// keep records an image under its digest and unpacks it.
func (r *Runtime) keep(ctx context.Context, target ocispec.Descriptor, reference string) (Image, error) {
	record := images.Image{
		Name:   target.Digest.String(),
		Target: target,
		Labels: map[string]string{referenceLabel: reference},
	}
	created, err := r.client.ImageService().Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		created, err = r.client.ImageService().Update(ctx, record, "labels", "target")
	}
	if err != nil {
		return Image{}, fmt.Errorf("record image %s: %w", reference, err)
	}
	img := containerd.NewImageWithPlatform(r.client, created, platforms.DefaultStrict())
	if err := img.Unpack(ctx, snapshotter); err != nil {
		return Image{}, fmt.Errorf("unpack image %s: %w", reference, err)
	}
	size, err := img.Size(ctx)
	return Image{Reference: reference, Digest: record.Name, Size: size}, err
}

// Images lists what the content store holds whole.
func (r *Runtime) Images(ctx context.Context) ([]Image, error) {
	all, err := r.client.ListImages(r.context(ctx))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var result []Image
	for _, img := range all {
		reference, ours := img.Labels()[referenceLabel]
		if !ours {
			continue
		}
		size, err := img.Size(r.context(ctx))
		if err != nil {
			continue // not whole: a fetch is under way
		}
		result = append(result, Image{Reference: reference, Digest: img.Name(), Size: size})
	}
	return result, nil
}

// image finds an image by digest, unpacked.
func (r *Runtime) image(ctx context.Context, dgst string) (containerd.Image, error) {
	img, err := r.client.GetImage(ctx, dgst)
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("image %s is not on this host: import or fetch it first", dgst)
	}
	return img, err
}

// HasImage tells whether every blob of an image is here.
func (r *Runtime) HasImage(ctx context.Context, dgst string) bool {
	img, err := r.image(r.context(ctx), dgst)
	if err != nil {
		return false
	}
	_, err = img.Size(r.context(ctx))
	return err == nil
}

// ReadBlob opens one blob of the content store; the caller closes it.
func (r *Runtime) ReadBlob(ctx context.Context, dgst string) (io.ReadCloser, error) {
	parsed, err := digest.Parse(dgst)
	if err != nil {
		return nil, fmt.Errorf("digest %q: %w", dgst, err)
	}
	ctx = r.context(ctx)
	info, err := r.client.ContentStore().Info(ctx, parsed)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", dgst, err)
	}
	at, err := r.client.ContentStore().ReaderAt(ctx, ocispec.Descriptor{Digest: parsed, Size: info.Size})
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", dgst, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{content.NewReader(at), at}, nil
}

// OpenBlob gets a blob from somewhere else.
type OpenBlob func(ctx context.Context, dgst string) (io.ReadCloser, error)

// Fetch gets the blobs of an image that are missing here, verifies each against its digest, and unpacks it. It returns
// the number of bytes fetched.
func (r *Runtime) Fetch(ctx context.Context, reference, dgst string, open OpenBlob) (int64, error) {
	ctx, done, err := r.lease(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	root, err := r.describeRoot(ctx, dgst, open)
	if err != nil {
		return 0, err
	}
	f := fetcher{store: r.client.ContentStore(), open: open}
	if err := images.Dispatch(ctx, f.handler(), nil, root); err != nil {
		return f.bytes, fmt.Errorf("fetch image %s: %w", reference, err)
	}
	_, err = r.keep(ctx, root, reference)
	return f.bytes, err
}

// MissingBytes tells how much a Fetch would bring, as far as the manifests that are here tell; unknown is -1.
func (r *Runtime) MissingBytes(ctx context.Context, dgst string) int64 {
	if r.HasImage(ctx, dgst) {
		return 0
	}
	return -1
}

// describeRoot learns the media type of an image's root, which its digest does not tell.
func (r *Runtime) describeRoot(ctx context.Context, dgst string, open OpenBlob) (ocispec.Descriptor, error) {
	parsed, err := digest.Parse(dgst)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("digest %q: %w", dgst, err)
	}
	blob, err := open(ctx, dgst)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer blob.Close()
	data, err := io.ReadAll(io.LimitReader(blob, 8<<20))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	mediaType, err := mediaTypeOf(data)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("image %s: %w", dgst, err)
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: parsed, Size: int64(len(data))}, nil
}

func (r *Runtime) lease(ctx context.Context) (context.Context, func(), error) {
	ctx, done, err := r.client.WithLease(r.context(ctx))
	if err != nil {
		return nil, nil, fmt.Errorf("lease the content store: %w", err)
	}
	return ctx, func() { _ = done(context.WithoutCancel(ctx)) }, nil
}
