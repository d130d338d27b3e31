package apt

import (
	"context"
	"path/filepath"

	"drydock/patch/turn"
)

// installing are the locks of those that install, downloading of those that fetch packages or lists.
func (p paths) installing() []string {
	return []string{filepath.Join(p.admin, "lock-frontend"), filepath.Join(p.admin, "lock")}
}

func (p paths) downloading() []string {
	return []string{filepath.Join(p.archives, "lock"), filepath.Join(p.lists, "lock")}
}

// turn waits until nobody holds one of the locks, and tells who does.
func (a *Apt) turn(ctx context.Context, locks []string, tell func(activity string)) error {
	return turn.Await(ctx, a.Patience, func() (string, error) { return turn.Locked(locks...) }, tell)
}
