package migrate

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func TestARestoreThatHangsIsEndedAndThenLeftToContainerd(t *testing.T) {
	for _, c := range []struct {
		name string
		// late is how often the restore has not returned in time, ends how often it has to be ended until it does.
		late, ends int
		returns    bool
	}{
		{"it returns", 0, 0, true},
		{"CRIU hangs", 1, 1, true},
		{"runc hangs, too", 2, 2, true},
		{"containerd hangs", 3, 9, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			complaint, hangs := errors.New("the restore failed"), make(chan struct{})
			r := &early{restores: new(errgroup.Group)}
			r.restores.Go(func() error { <-hangs; return complaint })
			if c.ends == 0 {
				close(hangs)
			}
			late, ended := 0, 0
			err := r.returned(func() <-chan time.Time {
				if late++; late <= c.late {
					return time.After(0)
				}
				return nil
			}, func() error {
				if ended++; ended == c.ends {
					close(hangs)
				}
				return nil
			})
			if ended != c.late || err == nil || errors.Is(err, complaint) != c.returns {
				t.Errorf("ended %d times: %v", ended, err)
			}
			if !c.returns {
				close(hangs)
			}
		})
	}
}

func TestARestoreThatCannotBeEndedIsNotWaitedFor(t *testing.T) {
	refused, hangs := errors.New("not permitted"), make(chan struct{})
	defer close(hangs)
	r := &early{restores: new(errgroup.Group)}
	r.restores.Go(func() error { <-hangs; return nil })
	err := r.returned(func() <-chan time.Time { return time.After(0) }, func() error { return refused })
	if !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

func TestOnlyACRIUThatWasLetGoLongAgoAndHoldsItsTasksIsOverdue(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name     string
		released time.Duration // ago; none if zero
		resumed  bool
		want     bool
	}{
		{"it waits in its hook", 0, false, false},
		{"it was let go just now", time.Second, false, false},
		{"its tasks run", 2 * letGoWithin, true, false},
		{"it hangs", 2 * letGoWithin, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := hook{dir: t.TempDir()}
			if c.released > 0 {
				mark := filepath.Join(h.dir, "released")
				at := now.Add(-c.released)
				if err := errors.Join(os.WriteFile(mark, nil, 0o600), os.Chtimes(mark, at, at)); err != nil {
					t.Fatal(err)
				}
			}
			if c.resumed {
				if err := os.WriteFile(filepath.Join(h.dir, "resumed"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			other := hook{dir: t.TempDir()}
			if got := (hooks{other, h}).overdue(now); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
