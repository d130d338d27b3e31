package filesync

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkFinalPassOverAnUnchangedTree reports the time inside the freeze as a ratio to filepath.WalkDir with Lstat of the
// same tree, measured in turn with it; medians of both.
func BenchmarkFinalPassOverAnUnchangedTree(b *testing.B) {
	for _, files := range []int{1_000, 10_000} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			root := b.TempDir()
			for i := range files {
				sub := filepath.Join(root, fmt.Sprint("dir", i/100))
				os.MkdirAll(sub, 0o755)
				if err := os.WriteFile(filepath.Join(sub, fmt.Sprint("file", i)), []byte("content"), 0o644); err != nil {
					b.Fatal(err)
				}
			}
			source, err := NewSource(root)
			if err != nil {
				b.Fatal(err)
			}
			defer source.Close()
			target := newTarget(b)
			pass := func(o PassOptions) time.Duration {
				var wire bytes.Buffer
				start := time.Now()
				if _, err := source.Pass(context.Background(), &wire, o); err != nil {
					b.Fatal(err)
				}
				if _, err := target.Apply(context.Background(), &wire); err != nil {
					b.Fatal(err)
				}
				return time.Since(start)
			}
			pass(PassOptions{})
			time.Sleep(100 * time.Millisecond) // out of the window in which a change could hide
			pass(PassOptions{})
			var ours, theirs []time.Duration
			for b.Loop() {
				theirs = append(theirs, plainWalk(b, root))
				ours = append(ours, pass(PassOptions{Final: true}))
			}
			slices.Sort(ours)
			slices.Sort(theirs)
			our, their := ours[len(ours)/2], theirs[len(theirs)/2]
			b.ReportMetric(float64(our)/float64(their), "of-walk")
			b.ReportMetric(float64(our)/1e6, "ms/pass")
			b.ReportMetric(float64(their)/1e6, "ms/walk")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func plainWalk(b *testing.B, root string) time.Duration {
	start := time.Now()
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			_, err = os.Lstat(path)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// BenchmarkFirstPass measures the way of 256 MiB through a source and a target on one machine.
func BenchmarkFirstPass(b *testing.B) {
	root := b.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a"), random(256<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	source, err := NewSource(root)
	if err != nil {
		b.Fatal(err)
	}
	defer source.Close()
	target := newTarget(b)
	var wire bytes.Buffer
	b.SetBytes(256 << 20)
	for b.Loop() {
		wire.Reset()
		source.Reset()
		if _, err := source.Pass(context.Background(), &wire, PassOptions{}); err != nil {
			b.Fatal(err)
		}
		if _, err := target.Apply(context.Background(), &wire); err != nil {
			b.Fatal(err)
		}
	}
}
