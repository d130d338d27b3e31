package grub

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The kernels of testdata/grub.cfg, which grub-mkconfig wrote on a host with Drydock's package.
const (
	older = "6.12.107+deb13-cloud-amd64"
	newer = "6.12.117+deb13-cloud-amd64"
	root  = "c287c232-a1c9-4739-b8ef-e88c6309695a"
	menu  = "gnulinux-advanced-" + root
)

func at(release string) string { return menu + ">gnulinux-" + release + "-advanced-" + root }

// host is a GRUB with the configuration, on a file system that says what it is, and what was saved in its environment.
func host(t *testing.T, change func(string) string, layers, system string) (g *GRUB, saved *[]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/grub.cfg")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"grub.cfg": change(string(text)), "grubenv": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	saved = &[]string{}
	return &GRUB{Dir: dir, Run: func(_ context.Context, argv ...string) (string, error) {
		switch strings.Join(argv[:2], " ") {
		case "grub-probe --target=abstraction":
			return layers, nil
		case "grub-probe --target=fs":
			return system, nil
		case "grub-editenv " + dir + "/grubenv":
			*saved = append(*saved, argv[2:]...)
			return "", nil
		}
		return "", errors.New("not a program of GRUB: " + argv[0])
	}}, saved
}

func same(text string) string { return text }

func TestAKernelIsTriedOnceAndTheOneThatRunsStaysTheDefault(t *testing.T) {
	g, saved := host(t, same, "\n", "ext2\n")
	if err := g.Try(t.Context(), newer, older); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"set", "saved_entry=" + at(older), "next_entry=" + at(newer)}, *saved); diff != "" {
		t.Error(diff)
	}
}

func TestAVerifiedKernelIsTheDefault(t *testing.T) {
	g, saved := host(t, same, "", "xfs\n")
	if err := g.Pin(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"set", "saved_entry=" + at(newer)}, *saved); diff != "" {
		t.Error(diff)
	}
}

func TestEntriesAreFoundWithoutASubmenu(t *testing.T) {
	flat := func(text string) string { return strings.ReplaceAll(text, "submenu 'Advanced", "# 'Advanced") }
	g, saved := host(t, flat, "", "ext2")
	if err := g.Pin(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	if want := "saved_entry=gnulinux-" + older + "-advanced-" + root; (*saved)[1] != want {
		t.Errorf("%v, want %s", *saved, want)
	}
}

func TestATrialThatCouldNotEndIsNotBegun(t *testing.T) {
	replaced := func(old, by string) func(string) string {
		return func(text string) string { return strings.ReplaceAll(text, old, by) }
	}
	for name, c := range map[string]struct {
		change         func(string) string
		layers, system string
		reason         string
		mendable       bool
	}{
		"another default":           {replaced(`set default="${saved_entry}"`, `set default="0"`), "", "ext2", "GRUB_DEFAULT", true},
		"panics that do not end":    {replaced("panic=10", "panic=0"), "", "ext2", "panic", true},
		"no word of panics":         {replaced("panic=10", ""), "", "ext2", "panic", true},
		"entries without a kernel":  {replaced("\tlinux\t", "\tchainloader\t"), "", "ext2", "no entry", true},
		"no entry for the new one":  {replaced(newer, "6.12.95-x"), "", "ext2", newer, true},
		"no entry for the old one":  {replaced(older, "6.12.95-x"), "", "ext2", older, true},
		"a disk that is no disk":    {same, "lvm\n", "ext2", "lvm", false},
		"a file system of versions": {same, "", "btrfs\n", "btrfs", false},
	} {
		t.Run(name, func(t *testing.T) {
			g, saved := host(t, c.change, c.layers, c.system)
			var unfit *Unfit
			if err := g.Try(t.Context(), newer, older); !errors.As(err, &unfit) || !strings.Contains(unfit.Reason, c.reason) || (unfit.Remedy != "") != c.mendable {
				t.Errorf("%v", err)
			}
			if len(*saved) != 0 {
				t.Errorf("saved %v", *saved)
			}
		})
	}
}

func TestAHostWithoutGRUBIsTold(t *testing.T) {
	g := &GRUB{Dir: t.TempDir()}
	var unfit *Unfit
	if err := g.Fit(t.Context()); !errors.As(err, &unfit) || unfit.Remedy != "" || !strings.Contains(unfit.Reason, "not booted by GRUB") {
		t.Error(err)
	}
}
