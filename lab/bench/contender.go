package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/stats"
)

// redisPort is where every Redis listens.
const redisPort = 6379

// contender moves a Redis of its own between hosts.
type contender interface {
	name() string
	// address of its Redis, which it keeps.
	address() string
	// start starts Redis anew on a host, whatever is left of an earlier one.
	start(ctx context.Context, host string) error
	// move brings Redis over. It returns how long no process of it ran.
	move(ctx context.Context, from, to string) (freeze time.Duration, err error)
	// tidy removes what a move leaves on the source, when nobody measures any more.
	tidy(ctx context.Context, from string) error
}

// frozenSince reads from CRIU's statistics, which it wrote at the end of a dump, since when the processes stood still.
func frozenSince(dir string) (time.Time, error) {
	at, err := written(filepath.Join(dir, "stats-dump"))
	if err != nil {
		return time.Time{}, err
	}
	open, err := os.Open(dir)
	if err != nil {
		return time.Time{}, err
	}
	defer open.Close()
	read, err := stats.CriuGetDumpStats(open)
	if err != nil {
		return time.Time{}, fmt.Errorf("statistics of the dump: %w", err)
	}
	return at.Add(-time.Duration(read.GetFrozenTime()) * time.Microsecond), nil
}

// written is when CRIU wrote a file with statistics: at the end of a dump, or when it had let the restored processes go.
func written(path string) (time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, fmt.Errorf("CRIU's statistics: %w", err)
	}
	return info.ModTime(), nil
}

// freezeBetween is the time from one host's dump to the other's restore.
func freezeBetween(dump, restore string) (time.Duration, error) {
	from, err := frozenSince(dump)
	to, rerr := written(filepath.Join(restore, "stats-restore"))
	return to.Sub(from), errors.Join(err, rerr)
}

var stamp = regexp.MustCompile(`(?m)^\((\d+\.\d+)\) (?:Dumping finished successfully|Restore finished successfully)`)

// logged is how long a CRIU took that wrote its log to the file.
func logged(path string) (time.Duration, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("CRIU's log: %w", err)
	}
	found := stamp.FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("%s does not say that CRIU finished", path)
	}
	seconds, err := strconv.ParseFloat(string(found[1]), 64)
	return time.Duration(seconds * float64(time.Second)), err
}
