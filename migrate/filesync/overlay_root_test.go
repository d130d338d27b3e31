//go:build root

package filesync

import (
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// overlay mounts upper over lower, and returns the merged tree.
func overlay(d dir, name, upper string) dir {
	d.Helper()
	merged := dir{d.T, d.path(name)}
	d.mkdir(name)
	d.mkdir(name + ".work")
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", d.path("lower"), d.path(upper), d.path(name+".work"))
	d.must(unix.Mount("filesync-test", merged.root, "overlay", 0, options))
	d.Cleanup(func() { unix.Unmount(merged.root, unix.MNT_DETACH) })
	return merged
}

func TestAnOverlayShowsTheSameTreeOverASyncedLayer(t *testing.T) {
	d := dir{t, t.TempDir()}
	for _, name := range []string{"lower/gone", "lower/replaced", "lower/kept", "upper", "copy"} {
		d.mkdir(name)
	}
	d.write("lower/gone/f", "1")
	d.write("lower/replaced/f", "2")
	d.write("lower/kept/f", "3")
	d.write("lower/kept/g", "4")
	source, err := NewSource(d.path("upper"))
	d.must(err)
	defer source.Close()
	target, err := NewTarget(d.path("copy"))
	d.must(err)
	defer target.Close()
	p := &pair{from: d.path("upper"), to: d.path("copy"), source: source, target: target}

	live := overlay(d, "live", "upper")
	live.write("kept/f", "changed")
	live.remove("gone")
	p.pass(t, PassOptions{Sync: true})
	live.remove("kept/g")
	live.remove("replaced")
	live.mkdir("replaced")
	live.write("replaced/new", "5")
	live.link("kept/f", "kept/h")
	live.mkdir("gone")
	p.pass(t, PassOptions{})
	live.rename("kept/h", "replaced/h")
	live.writeAt("kept/f", 1<<20, []byte("through the merged tree"))
	p.pass(t, PassOptions{Final: true})
	p.equal(t)

	want := describe(t, live.root)
	d.must(unix.Unmount(live.root, 0))
	moved := overlay(d, "moved", "copy")
	if diff := cmp.Diff(want, describe(t, moved.root)); diff != "" {
		t.Errorf("the merged trees differ (-source +target):\n%s", diff)
	}
	if _, err := os.Stat(moved.path("kept/g")); !os.IsNotExist(err) {
		t.Errorf("a removed file shows again: %v", err)
	}
}
