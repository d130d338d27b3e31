// Package faultpoint lets a test stop a program at points that have names, do to it what it likes, and let it go on.
package faultpoint

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// reached is what is added to the name of a point's file while the program stands there.
const reached = ".reached"

// In is to be called at each point. Where a file of the point's name lies in dir, it is renamed to NAME.reached, and the program goes
// on when that is gone, or ctx ends. Without a dir it is nil: nothing is looked for.
func In(dir string, log *slog.Logger) func(ctx context.Context, point string) {
	if dir == "" {
		return nil
	}
	return func(ctx context.Context, point string) {
		path := filepath.Join(dir, point)
		if err := os.Rename(path, path+reached); err != nil {
			return
		}
		log.Info("stopped at a fault point", "point", point)
		for ctx.Err() == nil {
			if _, err := os.Stat(path + reached); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}
