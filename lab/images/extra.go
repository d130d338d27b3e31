package images

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// WithProgram makes an archive of an image that runs one more program on the root that all share. It lies in a temporary file, which
// the caller removes.
func (s Set) WithProgram(ctx context.Context, name string, program []byte) (archive string, err error) {
	path := "/usr/local/bin/" + name
	content, err := layerOf([]file{{path: path, mode: 0o755, content: program}})
	if err != nil {
		return "", err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return "", fmt.Errorf("images: layer of %s: %w", name, err)
	}
	out, err := os.CreateTemp("", "drydock-image-")
	if err != nil {
		return "", fmt.Errorf("images: %w", err)
	}
	defer out.Close()
	err = s.withImage(ctx, Workbench, func(img v1.Image) error {
		img, err := mutate.AppendLayers(img, layer)
		if err != nil {
			return err
		}
		config, err := img.ConfigFile()
		if err != nil {
			return err
		}
		config = config.DeepCopy()
		config.Config.Entrypoint, config.Config.Cmd = []string{path}, nil
		if img, err = mutate.ConfigFile(img, config); err != nil {
			return err
		}
		return writeOCIArchive(ctx, out, reference(name), img)
	})
	if err != nil {
		return "", fmt.Errorf("images: make %s: %w", name, err)
	}
	return out.Name(), nil
}
