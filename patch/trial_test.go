package patch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/patch"
	"drydock/patch/grub"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const trialKernel = "99.9-new"

func runs(t *testing.T) string {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// loader is a GRUB that has an entry for each of the kernels.
type loader struct {
	*grub.GRUB
	saved  []string
	system string
	broken error
}

func newLoader(t *testing.T, kernels ...string) *loader {
	t.Helper()
	dir := t.TempDir()
	config := "set default=\"${next_entry}\"\nset default=\"${saved_entry}\"\n"
	for _, k := range kernels {
		config += "menuentry 'Linux' $menuentry_id_option 'gnulinux-" + k + "-advanced-x' {\n\tlinux\t/boot/vmlinuz-" + k + " panic=10\n}\n"
	}
	for name, text := range map[string]string{"grub.cfg": config, "grubenv": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l := &loader{system: "ext2"}
	l.GRUB = &grub.GRUB{Dir: dir, Run: func(_ context.Context, argv ...string) (string, error) {
		switch {
		case argv[0] == "grub-editenv":
			if l.broken == nil {
				l.saved = append(l.saved, strings.Join(argv[3:], " "))
			}
			return "", l.broken
		case argv[1] == "--target=fs":
			return l.system, nil
		}
		return "", nil
	}}
	return l
}

func entryOf(kernel string) string { return "gnulinux-" + kernel + "-advanced-x" }

func TestANewKernelIsTriedAndTheDefaultOnceTheHostIsVerified(t *testing.T) {
	old := runs(t)
	l := newLoader(t, old, trialKernel)
	dir := t.TempDir()
	fit := []*drydockv1.Refusal{patch.Refusal("wait", "not fit")}
	boot := func(name string) *patch.Host {
		h, _ := plain(t, func(c *patch.Config) {
			c.Dir, c.Boot, c.Grub = dir, name, l.GRUB
			c.Probe = func(context.Context) []*drydockv1.Refusal { return fit }
		})
		return h
	}
	// Seen from the other side: the kernel that runs here is the one that is tried, from the other.
	if err := os.WriteFile(filepath.Join(dir, "trial.json"), []byte(`{"kernel": "`+old+`", "fallback": "`+trialKernel+`", "boot": "boot-1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(h *patch.Host) {
		t.Helper()
		if _, err := h.Verify(t.Context(), &drydockv1.VerifyRequest{OldBootId: "boot-1", Patch: &drydockv1.Patch{Kernel: old}}); err != nil {
			t.Error(err)
		}
	}
	verify(boot("boot-2"))
	if len(l.saved) != 0 {
		t.Errorf("the kernel of a host that is not fit is the default: %q", l.saved)
	}
	fit = nil
	verify(boot("boot-1"))
	if len(l.saved) != 0 {
		t.Errorf("the kernel was never booted, and is the default: %q", l.saved)
	}
	for range 2 {
		verify(boot("boot-2"))
	}
	if diff := cmp.Diff([]string{"saved_entry=" + entryOf(old)}, l.saved); diff != "" {
		t.Error(diff)
	}
}

func TestARebootTriesTheKernelOfThePatchAndAFallBackIsTold(t *testing.T) {
	old := runs(t)
	l := newLoader(t, old, trialKernel)
	h, _ := plain(t, func(c *patch.Config) { c.Grub, c.Boot = l.GRUB, "boot-1" })
	res, err := h.Reboot(t.Context(), "boot-1", trialKernel, "test")
	if err != nil || len(res.Refusals) != 0 || res.Untried != "" {
		t.Fatal(res, err)
	}
	if diff := cmp.Diff([]string{"saved_entry=" + entryOf(old) + " next_entry=" + entryOf(trialKernel)}, l.saved); diff != "" {
		t.Error(diff)
	}
}

func TestAHostThatFellBackSaysSo(t *testing.T) {
	dir := t.TempDir()
	h, _ := plain(t, func(c *patch.Config) { c.Dir, c.Boot = dir, "boot-2" })
	if err := os.WriteFile(filepath.Join(dir, "trial.json"), []byte(`{"kernel": "`+trialKernel+`", "fallback": "x", "boot": "boot-1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for ended, want := range map[string]string{"boot-1": "fell back to " + runs(t), "boot-0": "and the patch wants " + trialKernel} {
		res, err := h.Verify(t.Context(), &drydockv1.VerifyRequest{OldBootId: ended, Patch: &drydockv1.Patch{Kernel: trialKernel}})
		if err != nil || len(res.Refusals) != 1 || !strings.Contains(words(res.Refusals), want) {
			t.Errorf("%v, %v, want %q", res, err, want)
		}
	}
}

func TestAHostIsNotRebootedIntoAKernelThatCouldBeTriedAndIsNot(t *testing.T) {
	old := runs(t)
	for name, c := range map[string]struct {
		kernels          []string
		system           string
		broken           error
		refusal, untried string
		fails            bool
	}{
		"the menu lacks it":       {kernels: []string{old}, system: "ext2", refusal: "no entry for kernel " + trialKernel},
		"GRUB cannot forget it":   {kernels: []string{old, trialKernel}, system: "zfs", untried: "which is zfs"},
		"its program does not do": {kernels: []string{old, trialKernel}, system: "ext2", broken: errors.New("no such file"), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoader(t, c.kernels...)
			l.system, l.broken = c.system, c.broken
			h, _ := plain(t, func(cfg *patch.Config) { cfg.Grub = l.GRUB })
			res, err := h.Reboot(t.Context(), "boot-1", trialKernel, "test")
			if (err != nil) != c.fails || (c.refusal != "") != (len(res.GetRefusals()) > 0) {
				t.Fatal(res, err)
			}
			if !strings.Contains(words(res.GetRefusals()), c.refusal) || !strings.Contains(res.GetUntried(), c.untried) || (res.GetUntried() != "") != (c.untried != "") {
				t.Error(res)
			}
			if done, err := h.Coming(); (err == nil) != (c.untried == "") {
				t.Error("pods may come:", err)
			} else if err == nil {
				done()
			}
		})
	}
}
