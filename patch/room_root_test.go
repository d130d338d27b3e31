//go:build root

package patch_test

import (
	"strings"
	"testing"

	"drydock/internal/apttest"
	"drydock/internal/patchtest"
	"drydock/patch"

	"golang.org/x/sys/unix"
)

func TestAKernelThatDoesNotFitIntoBootIsRefused(t *testing.T) {
	w := newWorld(t)
	if err := unix.Mount("boot", w.Path("boot"), "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(w.Path("boot"), 0)
	w.Install(apttest.Deb{Name: oldKernel, Version: "6.12.94-1", Files: map[string]string{"boot/vmlinuz-6.12.94+deb13-amd64": strings.Repeat("k", 800<<10)}},
		apttest.Deb{Name: "linux-image-amd64", Version: "6.12.94-1", Depends: oldKernel})
	w.offer(apttest.Deb{Name: newKernel, Version: "6.12.117-1"}, apttest.Deb{Name: "linux-image-amd64", Version: "6.12.117-1", Depends: newKernel})
	if res := w.Resolve(patchtest.All()); len(res.Refusals) != 0 {
		t.Fatal("there is room yet:", res.Refusals)
	}
	w.Write("boot/initrd.img-6.12.94+deb13-amd64", strings.Repeat("i", 900<<10))
	res := w.Resolve(patchtest.All())
	if text := patchtest.Reasons(res.Refusals); len(res.Refusals) != 1 || !strings.HasPrefix(text, w.Path("boot")+" has ") || !strings.Contains(text, "kernel 6.12.117+deb13-amd64 needs 2.5 MiB") {
		t.Error(res.Refusals)
	}
}

// A package that cannot be unpacked leaves behind that those which need it are unpacked without it.
func TestADiskThatFillsUpMeanwhileIsNamedAndThePatchMayBeTriedAgain(t *testing.T) {
	w := newWorld(t)
	if err := unix.Mount("boot", w.Path("boot"), "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(w.Path("boot"), 0)
	w.Install(apttest.Deb{Name: "image", Version: "1"})
	w.offer(apttest.Deb{Name: "image-2", Version: "2", Files: map[string]string{"boot/image-2": strings.Repeat("k", 2<<20)}},
		apttest.Deb{Name: "image", Version: "2", Depends: "image-2"})
	p := w.Ready()
	result := w.Apply(p)
	if text := patchtest.Reasons(result.Refusals); result.Done || !strings.HasPrefix(text, "package image-2: ") || !strings.Contains(text, "No space left on device") {
		t.Fatal(result)
	}
	// dpkg has the new version on record, so there is nothing to install; that does not make the host whole.
	if text := patchtest.Reasons(w.Resolve(patchtest.All()).Refusals); !strings.Contains(text, "dpkg was stopped half-way with image (") {
		t.Error("a new patch:", text)
	}
	if err := unix.Mount("boot", w.Path("boot"), "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	w.Done(w.ApplyWith(patch.Order{ID: "r1/h1", Patch: p, Conffiles: patch.Keep, Again: true}, patchtest.Quiet))
	w.at(map[string]string{"image": "2", "image-2": "2"})
}
