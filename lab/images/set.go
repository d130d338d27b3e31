package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// selfcheckPackage is the program of the workbench image.
const selfcheckPackage = "drydock/lab/selfcheck/main"

// ensureSet returns the archives of all images on the root, making them if the cache has none from the same inputs.
func ensureSet(ctx context.Context, cacheDir string, b base, progress io.Writer) (Set, error) {
	program, err := compileSelfcheck(ctx, cacheDir)
	if err != nil {
		return Set{}, err
	}
	hash, err := setHash(b, program)
	if err != nil {
		return Set{}, err
	}
	set := Set{dir: filepath.Join(cacheDir, "set-"+hash), root: b.dir}
	if _, err := os.Stat(set.dir); err == nil {
		now := time.Now()
		return set, os.Chtimes(set.dir, now, now)
	}
	work := filepath.Join(cacheDir, "unfinished-set-"+hash)
	if err := os.Mkdir(work, 0o755); err != nil {
		return Set{}, fmt.Errorf("images: %w", err)
	}
	shared, err := tarball.LayerFromFile(b.tar, tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return Set{}, fmt.Errorf("images: compress the shared layer: %w", err)
	}
	passwd, err := os.ReadFile(filepath.Join(b.dir, "etc/passwd"))
	if err != nil {
		return Set{}, fmt.Errorf("images: %w", err)
	}
	for _, r := range recipes() {
		img, err := r.image(shared, passwd, program)
		if err != nil {
			return Set{}, err
		}
		size, err := writeArchiveFile(ctx, filepath.Join(work, r.name+".tar"), reference(r.name), img)
		if err != nil {
			return Set{}, err
		}
		report(progress, "made the image %s, %d MB", r.name, size>>20)
	}
	if err := os.Rename(work, set.dir); err != nil {
		return Set{}, fmt.Errorf("images: put the images in place: %w", err)
	}
	return set, nil
}

// compileSelfcheck returns the static self-checking program of this source tree.
func compileSelfcheck(ctx context.Context, cacheDir string) ([]byte, error) {
	dir, err := os.MkdirTemp(cacheDir, "unfinished-selfcheck-")
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "selfcheck")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, selfcheckPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("images: compile the self-checking program (call it inside the source tree, with Go installed): %w: %s", err, bytes.TrimSpace(text))
	}
	program, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	return program, nil
}

// setHash covers everything that the archives are made of.
func setHash(b base, program []byte) (string, error) {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s %s %d\n", b.hash, runtime.GOARCH, DataSize)
	for _, r := range recipes() {
		config, err := json.Marshal(r.config)
		if err != nil {
			return "", fmt.Errorf("images: describe the image %s: %w", r.name, err)
		}
		_, _ = fmt.Fprintf(sum, "%s %s %t\n", r.name, config, r.check)
		for _, f := range r.files {
			_, _ = fmt.Fprintf(sum, "%s %v %d %d\n%s\n", f.path, f.mode, f.size, len(f.content), f.content)
		}
	}
	_, _ = sum.Write(program)
	return hex.EncodeToString(sum.Sum(nil)[:6]), nil
}

// image puts the recipe's files and configuration on top of the shared layer.
func (r recipe) image(shared v1.Layer, passwd, program []byte) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	layers := []v1.Layer{shared}
	files := r.files
	if r.check {
		files = append(files, file{path: "/usr/local/bin/selfcheck", mode: 0o755, content: program})
	}
	if r.name == Postgres {
		uid, gid, err := numbers(passwd, r.config.User)
		if err != nil {
			return nil, err
		}
		files = append(files, file{path: PostgresData, mode: os.ModeDir | 0o700, uid: uid, gid: gid})
	}
	if len(files) > 0 {
		content, err := layerOf(files)
		if err != nil {
			return nil, err
		}
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		layer, err := tarball.LayerFromOpener(open, tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, fmt.Errorf("images: layer of %s: %w", r.name, err)
		}
		layers = append(layers, layer)
	}
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		return nil, fmt.Errorf("images: stack the layers of %s: %w", r.name, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("images: configuration of %s: %w", r.name, err)
	}
	config = config.DeepCopy()
	config.Config = r.config
	config.Config.Env = append([]string{"PATH=" + path}, r.config.Env...)
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	config.Created = v1.Time{Time: epoch()}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, fmt.Errorf("images: configure %s: %w", r.name, err)
	}
	return img, nil
}

func numbers(passwd []byte, user string) (uid, gid int, err error) {
	u, g, found := ids(passwd, user)
	if !found {
		return 0, 0, fmt.Errorf("images: the Debian root has no user %s", user)
	}
	if uid, err = strconv.Atoi(u); err != nil {
		return 0, 0, fmt.Errorf("images: user %s: %w", user, err)
	}
	if gid, err = strconv.Atoi(g); err != nil {
		return 0, 0, fmt.Errorf("images: user %s: %w", user, err)
	}
	return uid, gid, nil
}
