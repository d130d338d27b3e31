package apt

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"drydock/status/packages"
)

// Refresh runs apt-get update with every check on, whatever the host's configuration says. A source that fails keeps what it
// had, and has its failure remembered.
func (a *Apt) Refresh(ctx context.Context) error {
	p, err := a.paths(ctx)
	if err != nil {
		return err
	}
	sources, err := a.sources(ctx, p)
	if err != nil {
		return err
	}
	out, err := a.update(ctx)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("apt-get update: %w", err)
	}
	failures, others := sortFailures(out, sources)
	if err != nil && len(failures) == 0 {
		return fmt.Errorf("apt-get update: %w: %s", err, strings.Join(others, "; "))
	}
	now := a.Now()
	return a.Memory.Update(func(known *packages.Remembered) bool {
		known.Refreshed, known.Failures = now, make(map[string]packages.Failure)
		for _, s := range sources {
			if text := failures[s.base]; text != "" {
				known.Failures[s.base] = packages.Failure{Text: text, Had: s.written()}
			} else {
				known.Confirmed[s.base] = now
			}
		}
		return true
	})
}

const (
	// turnWithin is how long others on the host, such as apt-daily, may keep apt's lists to themselves.
	turnWithin = 5 * time.Minute
	turnAgain  = time.Second
)

// update runs apt-get update and returns what it says. It waits for its turn: apt itself waits for dpkg's lock, but not for that of
// its lists.
func (a *Apt) update(ctx context.Context) (string, error) {
	for deadline := time.Now().Add(turnWithin); ; {
		cmd := a.command(ctx, "apt-get", "update", "-q",
			"-o", "Acquire::Check-Valid-Until=true", "-o", "Acquire::Check-Date=true", "-o", "Acquire::AllowInsecureRepositories=false",
			"-o", "Acquire::AllowWeakRepositories=false", "-o", "Acquire::AllowDowngradeToInsecureRepositories=false",
			"-o", "APT::Update::Error-Mode=any", "-o", "Acquire::Retries=1", "-o", "DPkg::Lock::Timeout=60")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "E: Could not get lock ") || time.Now().After(deadline) {
			return string(out), err
		}
		select {
		case <-ctx.Done():
			return string(out), ctx.Err()
		case <-time.After(turnAgain):
		}
	}
}

// sortFailures gives apt's complaints to the sources that they name. Of several the first is kept: the others follow from it.
func sortFailures(out string, sources []*source) (failures map[string]string, others []string) {
	failures = make(map[string]string)
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		text, failed := strings.CutPrefix(line, "E: ")
		if !failed {
			if text, failed = strings.CutPrefix(line, "W: "); !failed || !isFailure(text) {
				continue
			}
		}
		named := false
		for _, s := range sources {
			if s.isNamedIn(text) {
				named = true
				if failures[s.base] == "" {
					failures[s.base] = text
				}
			}
		}
		if !named {
			others = append(others, text)
		}
	}
	return failures, others
}

// isFailure tells a warning that means that a source was not updated from one that only informs.
func isFailure(text string) bool {
	for _, sign := range []string{"Failed to fetch", "GPG error", "not signed", "signature", "expired", "not valid yet", "changed its"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// isNamedIn finds the source in apt's words: by its URI, or as apt writes it, "URI SUITE InRelease".
func (s *source) isNamedIn(text string) bool {
	repo := strings.TrimSuffix(s.wire.Uri, "/")
	return strings.Contains(text, s.base) || strings.Contains(text, repo+" "+s.wire.Suite+" ")
}
