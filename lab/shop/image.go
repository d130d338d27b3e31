package shop

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Archives writes an archive of an image for each version into dir, and returns their paths by version. It compiles the program,
// and has to be called inside the source tree.
func Archives(ctx context.Context, dir string) (map[string]string, error) {
	program := filepath.Join(dir, "shop")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "drydock/lab/shop/main")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile the shop: %w: %s", err, bytes.TrimSpace(out))
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	paths := make(map[string]string)
	for _, version := range Versions {
		img, err := image(data, version)
		if err != nil {
			return nil, fmt.Errorf("image of the shop %s: %w", version, err)
		}
		paths[version] = filepath.Join(dir, version+".tar")
		ref, err := name.NewTag("shop:" + version)
		if err != nil {
			return nil, err
		}
		if err := tarball.WriteToFile(paths[version], ref, img); err != nil {
			return nil, fmt.Errorf("image of the shop %s: %w", version, err)
		}
	}
	return paths, nil
}

// image has the program and nothing else.
func image(program []byte, version string) (v1.Image, error) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	if err := w.WriteHeader(&tar.Header{Name: "shop", Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	config.Config = v1.Config{Entrypoint: []string{"/shop"}, Cmd: []string{"serve", version}, Env: []string{"GODEBUG=multipathtcp=0"}}
	return mutate.ConfigFile(img, config)
}
