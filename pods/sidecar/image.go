package sidecar

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Reference is the name of the image that the program of a version is in.
func Reference(version string) string { return "drydock/shim:" + version }

// Image is an image with nothing in it but one program. The same program always gives the same image.
type Image struct {
	program  string
	size     int64
	layer    ocispec.Descriptor
	config   []byte
	manifest []byte
}

// NewImage reads a program, which must be static.
func NewImage(program string) (*Image, error) {
	info, err := os.Stat(program)
	if err != nil {
		return nil, fmt.Errorf("image of the shim: %w", err)
	}
	img := &Image{program: program, size: info.Size()}
	sum, count := sha256.New(), &counter{}
	if err := img.writeLayer(io.MultiWriter(sum, count)); err != nil {
		return nil, fmt.Errorf("image of the shim: %w", err)
	}
	img.layer = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.NewDigest(digest.SHA256, sum), Size: count.n}
	img.config, err = json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   ocispec.ImageConfig{Entrypoint: []string{Program}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{img.layer.Digest}},
	})
	if err != nil {
		return nil, err
	}
	img.manifest, err = json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(img.config), Size: int64(len(img.config))},
		Layers: []ocispec.Descriptor{img.layer},
	})
	return img, err
}

// Digest is the manifest's.
func (img *Image) Digest() string { return digest.FromBytes(img.manifest).String() }

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func (img *Image) writeLayer(w io.Writer) error {
	file, err := os.Open(img.program)
	if err != nil {
		return err
	}
	defer file.Close()
	out := tar.NewWriter(w)
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: Program[1:], Mode: 0o755, Size: img.size, Format: tar.FormatPAX}); err != nil {
		return err
	}
	if _, err := io.Copy(out, file); err != nil {
		return err
	}
	return out.Close()
}

// Write writes the image as an OCI archive under a name.
func (img *Image) Write(w io.Writer, reference string) error {
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{{
			MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(img.manifest), Size: int64(len(img.manifest)),
			Annotations: map[string]string{"io.containerd.image.name": reference},
			Platform:    &ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		}},
	})
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	blob := func(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }
	for _, entry := range []struct {
		name string
		data []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", index},
		{blob(digest.FromBytes(img.manifest)), img.manifest}, {blob(digest.FromBytes(img.config)), img.config},
	} {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: entry.name, Mode: 0o644, Size: int64(len(entry.data))}); err != nil {
			return err
		}
		if _, err := out.Write(entry.data); err != nil {
			return err
		}
	}
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: blob(img.layer.Digest), Mode: 0o644, Size: img.layer.Size}); err != nil {
		return err
	}
	if err := img.writeLayer(out); err != nil {
		return err
	}
	return out.Close()
}
