package netdump

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestATableThatChangedWhileItWasReadIsReadAgain(t *testing.T) {
	other := errors.New("no such link")
	for name, test := range map[string]struct {
		changes int
		err     error
		want    error
		reads   int
	}{
		"unchanged":               {0, nil, nil, 1},
		"changed twice":           {2, nil, nil, 3},
		"changed again and again": {1000, nil, netlink.ErrDumpInterrupted, attempts},
		"an error":                {1, other, other, 2},
	} {
		reads := 0
		table, err := Whole(func() ([]string, error) {
			if reads++; reads <= test.changes {
				return []string{"half"}, fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
			}
			return []string{"all"}, test.err
		})
		if !errors.Is(err, test.want) || reads != test.reads || err == nil && table[0] != "all" {
			t.Errorf("%s: %v, %v after %d reads", name, table, err, reads)
		}
	}
}
