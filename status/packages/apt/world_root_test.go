//go:build root

package apt

import (
	"context"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/apttest"
	"drydock/status/packages"
)

type (
	archive = apttest.Archive
	deb     = apttest.Deb
)

// world is one with the provider looking at it.
type world struct {
	*apttest.World
	t   *testing.T
	apt *Apt
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: apttest.New(t), t: t}
	w.apt = &Apt{
		Memory: packages.NewMemory(w.Path("memory.json")), MaxAge: 7 * 24 * time.Hour, Config: w.Path("apt.conf"),
		Now: func() time.Time { return w.Now }, Advisories: w.Path("advisories"),
	}
	return w
}

func (w *world) refresh() {
	w.t.Helper()
	if err := w.apt.Refresh(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) collect() *packages.Inventory {
	w.t.Helper()
	inventory, err := w.apt.Collect(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return inventory
}

// only is the one update that there must be.
func only(t *testing.T, inventory *packages.Inventory) *drydockv1.PackageUpdate {
	t.Helper()
	if len(inventory.Status.Updates) != 1 {
		t.Fatalf("updates: %v; sources: %v", inventory.Status.Updates, inventory.Status.Sources)
	}
	return inventory.Status.Updates[0]
}
