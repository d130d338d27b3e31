//go:build root

package images

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const testCache = "/var/cache/drydock/images"

func build(t *testing.T) Set {
	t.Helper()
	set, err := Build(t.Context(), testCache, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestASecondBuildMakesNothing(t *testing.T) {
	first := build(t)
	before, err := os.Stat(first.Path(Redis))
	if err != nil {
		t.Fatal(err)
	}
	second := build(t)
	after, err := os.Stat(second.Path(Redis))
	if err != nil || first != second || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the second build gave %+v after %+v, %v", second, first, err)
	}
}

func TestAnImageMadeAgainHasTheSameBytes(t *testing.T) {
	set := build(t)
	want := checksum(t, set.Path(Workbench))
	again := t.TempDir()
	root := filepath.Join(again, "root-"+filepath.Base(filepath.Dir(set.Root()))[len("root-"):])
	if err := os.Symlink(filepath.Dir(set.Root()), root); err != nil {
		t.Fatal(err)
	}
	other, err := Build(t.Context(), again, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if got := checksum(t, other.Path(Workbench)); got != want {
		t.Errorf("the checksum was %s and is %s", want, got)
	}
}

func checksum(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func TestADockerArchiveHoldsTheSameConfiguration(t *testing.T) {
	set := build(t)
	path := filepath.Join(t.TempDir(), "nginx.tar")
	if err := set.WriteDockerArchive(t.Context(), Nginx, path); err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recipes() {
		if r.name != Nginx {
			continue
		}
		if diff := cmp.Diff(r.config.Entrypoint, file.Config.Entrypoint); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAnUnpackedImageHoldsItsFiles(t *testing.T) {
	set, dir := build(t), t.TempDir()
	if _, err := set.Unpack(t.Context(), Nginx, dir); err != nil {
		t.Fatal(err)
	}
	if got := checksum(t, filepath.Join(dir, "srv/www/data.bin")); got != DataSHA256() {
		t.Errorf("data.bin has the checksum %s instead of %s", got, DataSHA256())
	}
	for _, name := range []string{"usr/sbin/nginx", "usr/bin/redis-server", "usr/lib/postgresql/current/bin/pgbench"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s is not a program: %v", name, err)
		}
	}
}

func TestAnUnknownImageIsAnErrorThatNamesTheKnownOnes(t *testing.T) {
	if _, err := build(t).Unpack(t.Context(), "mysql", t.TempDir()); err == nil {
		t.Error("an unknown image was unpacked")
	}
}
