package store

import (
	"errors"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
)

func TestNothingIsWrittenUnderATermThatIsOver(t *testing.T) {
	s := open(t, t.TempDir())
	defer closeStore(t, s)
	ctx := t.Context()
	old, err := s.Campaign(ctx, "leader", Leader{Name: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	under := WithGuard(ctx, old)
	put := func(name string) error {
		_, err := s.Txn().If(Unchanged("hosts/"+name, 0)).Put("hosts/"+name, &drydockv1.HostRecord{Name: name}).Commit(under)
		return err
	}
	if err := put("h1"); err != nil {
		t.Fatal(err)
	}
	if err := put("h1"); !errors.Is(err, ErrConflict) {
		t.Errorf("a conflict in a term that lasts: %v", err)
	}
	// The leader is paused, its lease ends, and another one leads: what it does when it wakes up must come to nothing.
	if _, err := s.Client().Delete(ctx, old.Key()); err != nil {
		t.Fatal(err)
	}
	next, err := s.Campaign(ctx, "leader", Leader{Name: "c2"})
	if err != nil {
		t.Fatal(err)
	}
	if next.Revision() <= old.Revision() {
		t.Errorf("term %d after %d", next.Revision(), old.Revision())
	}
	for _, name := range []string{"h1", "h2"} {
		if err := put(name); !errors.Is(err, ErrDeposed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = Update(under, s, "hosts/h1", func(item Item[*drydockv1.HostRecord]) error {
		item.Value.Address = "changed"
		return nil
	})
	if !errors.Is(err, ErrDeposed) {
		t.Errorf("an update: %v", err)
	}
	if item, err := Get[drydockv1.HostRecord](ctx, s, "hosts/h1"); err != nil || item.Value.GetAddress() != "" {
		t.Errorf("got %v, %v", item.Value, err)
	}
	if _, err := Get[drydockv1.HostRecord](ctx, s, "hosts/h2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Txn().Put("hosts/h2", &drydockv1.HostRecord{}).Commit(WithGuard(ctx, next)); err != nil {
		t.Errorf("the new leader: %v", err)
	}
	if _, err := s.Txn().Put("hosts/h3", &drydockv1.HostRecord{}).Commit(WithoutGuard(under)); err != nil {
		t.Errorf("what anybody may write: %v", err)
	}
}
