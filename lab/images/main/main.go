// Command images makes the demo's images, or finds them in the cache, and links them into a directory as NAME.tar.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"drydock/lab/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir := flag.String("dir", "build/images", "directory for the links")
	flag.Parse()
	if err := link(ctx, *dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func link(ctx context.Context, dir string) error {
	set, err := images.Build(ctx, images.DefaultCache, os.Stderr)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range set.Names() {
		to := filepath.Join(dir, name+".tar")
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(set.Path(name), to); err != nil {
			return err
		}
		fmt.Println(to)
	}
	return nil
}
