package turn_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/patch"
	"drydock/patch/turn"
)

func TestWhoeverIsAtWorkIsToldAndWaitedFor(t *testing.T) {
	asked, told := 0, ""
	holder := func() (string, error) {
		if asked++; asked < 3 {
			return "dpkg", nil
		}
		return "", nil
	}
	if err := turn.Await(t.Context(), time.Hour, holder, func(activity string) { told = activity }); err != nil || asked != 3 || told != "waits: dpkg" {
		t.Error(err, asked, told)
	}
}

func TestWaitingEnds(t *testing.T) {
	holder := func() (string, error) { return "dpkg", nil }
	var refused *patch.Refused
	if err := turn.Await(t.Context(), time.Nanosecond, holder, func(string) {}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "dpkg for longer than 1ns") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := turn.Await(ctx, time.Hour, holder, func(string) {}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	broken := errors.New("no permission")
	if err := turn.Await(t.Context(), time.Hour, func() (string, error) { return "", broken }, func(string) {}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestALockThatIsNotThereIsHeldByNobody(t *testing.T) {
	if who, err := turn.Locked(filepath.Join(t.TempDir(), "lock")); who != "" || err != nil {
		t.Error(who, err)
	}
}
