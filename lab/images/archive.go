package images

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// reference is the name that an image is imported under. The host part keeps it apart from names on a registry.
func reference(image string) string { return "lab.drydock/" + image + ":latest" }

// writeArchiveFile writes the image as an OCI archive and returns the size in bytes of the file.
func writeArchiveFile(ctx context.Context, path, ref string, img v1.Image) (int64, error) {
	out, err := os.Create(path)
	if err != nil {
		return 0, fmt.Errorf("images: %w", err)
	}
	defer out.Close()
	if err := writeOCIArchive(ctx, out, ref, img); err != nil {
		return 0, fmt.Errorf("images: write %s: %w", path, err)
	}
	info, err := out.Stat()
	if err != nil {
		return 0, fmt.Errorf("images: %w", err)
	}
	return info.Size(), nil
}

// writeOCIArchive writes an OCI image layout with one image as a tar. The same image always gives the same bytes.
func writeOCIArchive(ctx context.Context, w io.Writer, ref string, img v1.Image) error {
	manifest, err := img.RawManifest()
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	index, err := indexOf(img, ref)
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	for _, entry := range []struct {
		name    string
		content []byte
	}{{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", index}} {
		if err := addBytes(out, entry.name, entry.content); err != nil {
			return err
		}
	}
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	if err := addBytes(out, blobPath(digest), manifest); err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	configDigest, err := img.ConfigName()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := addBytes(out, blobPath(configDigest), config); err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("layers: %w", err)
	}
	for _, layer := range layers {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := addLayer(out, layer); err != nil {
			return err
		}
	}
	return out.Close()
}

// indexOf describes the one image of an archive. containerd takes its name from the first annotation, others from the second.
func indexOf(img v1.Image, ref string) ([]byte, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, fmt.Errorf("digest: %w", err)
	}
	size, err := img.Size()
	if err != nil {
		return nil, fmt.Errorf("size: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	_, tag, _ := strings.Cut(ref, ":")
	return json.Marshal(v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType:   types.OCIManifestSchema1,
			Digest:      digest,
			Size:        size,
			Platform:    &v1.Platform{Architecture: config.Architecture, OS: config.OS},
			Annotations: map[string]string{"io.containerd.image.name": ref, "org.opencontainers.image.ref.name": tag},
		}},
	})
}

func blobPath(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

func addBytes(out *tar.Writer, name string, content []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: epoch()}
	if err := out.WriteHeader(header); err != nil {
		return fmt.Errorf("entry %s: %w", name, err)
	}
	if _, err := out.Write(content); err != nil {
		return fmt.Errorf("entry %s: %w", name, err)
	}
	return nil
}

func addLayer(out *tar.Writer, layer v1.Layer) error {
	digest, err := layer.Digest()
	if err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	size, err := layer.Size()
	if err != nil {
		return fmt.Errorf("layer %s: %w", digest, err)
	}
	content, err := layer.Compressed()
	if err != nil {
		return fmt.Errorf("layer %s: %w", digest, err)
	}
	defer content.Close()
	header := &tar.Header{Typeflag: tar.TypeReg, Name: blobPath(digest), Mode: 0o644, Size: size, ModTime: epoch()}
	if err := out.WriteHeader(header); err != nil {
		return fmt.Errorf("layer %s: %w", digest, err)
	}
	if _, err := io.Copy(out, content); err != nil {
		return fmt.Errorf("layer %s: %w", digest, err)
	}
	return nil
}

// WriteDockerArchive writes the named image, as `docker save` would, to a file.
func (s Set) WriteDockerArchive(ctx context.Context, image, path string) error {
	return s.withImage(ctx, image, func(img v1.Image) error {
		tag, err := name.NewTag(reference(image))
		if err != nil {
			return fmt.Errorf("images: %w", err)
		}
		if err := tarball.WriteToFile(path, tag, img); err != nil {
			return fmt.Errorf("images: write the docker archive %s: %w", path, err)
		}
		return nil
	})
}

// Unpack puts the file system of the named image into an empty directory and returns the image's configuration, for
// running it without containerd.
func (s Set) Unpack(ctx context.Context, image, dir string) (v1.Config, error) {
	var config v1.Config
	err := s.withImage(ctx, image, func(img v1.Image) error {
		file, err := img.ConfigFile()
		if err != nil {
			return fmt.Errorf("images: configuration of %s: %w", image, err)
		}
		config = file.Config
		content := mutate.Extract(img)
		defer content.Close()
		if _, err := archive.Apply(ctx, dir, content); err != nil {
			return fmt.Errorf("images: unpack %s into %s: %w", image, dir, err)
		}
		return nil
	})
	return config, err
}

// withImage calls use with the named image, laid out in a directory that is gone afterwards.
func (s Set) withImage(ctx context.Context, image string, use func(v1.Image) error) error {
	in, err := os.Open(s.Path(image))
	if err != nil {
		return fmt.Errorf("images: no image %q in the set, only %s: %w", image, strings.Join(s.Names(), ", "), err)
	}
	defer in.Close()
	dir, err := os.MkdirTemp(filepath.Dir(s.dir), "layout-")
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	defer os.RemoveAll(dir)
	if _, err := archive.Apply(ctx, dir, in, archive.WithNoSameOwner()); err != nil {
		return fmt.Errorf("images: open the archive of %s: %w", image, err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return fmt.Errorf("images: read the archive of %s: %w", image, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		return fmt.Errorf("images: the archive of %s does not hold one image: %w", image, err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return fmt.Errorf("images: read the archive of %s: %w", image, err)
	}
	return use(img)
}
