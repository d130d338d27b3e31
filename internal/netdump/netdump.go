// Package netdump reads the kernel's tables of links, addresses, routes and neighbours whole.
package netdump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// attempts is how often a table is read that changes meanwhile.
const attempts = 10

// Whole returns what read does. The kernel says of a table that changed while it was read that something may be missing or be there
// twice (netlink.ErrDumpInterrupted): then it is read again, a few times.
func Whole[T any](read func() (T, error)) (table T, err error) {
	for range attempts {
		if table, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return table, err
}
