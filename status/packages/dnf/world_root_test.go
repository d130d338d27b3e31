//go:build root

package dnf

import (
	"context"
	"testing"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/dnftest"
	"drydock/status/packages"
)

// world is a host with a provider of its own.
type world struct {
	*dnftest.World
	t   *testing.T
	dnf *Dnf
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: dnftest.New(t), t: t}
	w.dnf = &Dnf{
		Memory: packages.NewMemory(w.Path("memory.json")), MaxAge: 7 * 24 * time.Hour, Now: func() time.Time { return w.Now },
		Library: Library{Config: w.Config(), Root: w.Root, Release: dnftest.Release},
	}
	return w
}

// rpm builds a package with more lines in its head, and returns where it lies.
func (w *world) rpm(name, version, more string) string {
	w.t.Helper()
	return w.Build(dnftest.RPM{Name: name, Version: version, More: more})
}

// install writes a package down as installed.
func (w *world) install(name, version, more string) {
	w.t.Helper()
	w.Have(dnftest.RPM{Name: name, Version: version, More: more})
}

func (w *world) refresh() {
	w.t.Helper()
	if err := w.dnf.Refresh(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) collect() *packages.Inventory {
	w.t.Helper()
	inventory, err := w.dnf.Collect(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return inventory
}

func only(t *testing.T, inventory *packages.Inventory) *drydockv1.PackageUpdate {
	t.Helper()
	if len(inventory.Status.Updates) != 1 {
		t.Fatalf("%v", inventory.Status)
	}
	return inventory.Status.Updates[0]
}
