package apt

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

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
	cmd := a.command(ctx, "apt-get", "update", "-q",
		"-o", "Acquire::Check-Valid-Until=true", "-o", "Acquire::Check-Date=true", "-o", "Acquire::AllowInsecureRepositories=false",
		"-o", "Acquire::AllowWeakRepositories=false", "-o", "Acquire::AllowDowngradeToInsecureRepositories=false",
		"-o", "APT::Update::Error-Mode=any", "-o", "Acquire::Retries=1", "-o", "DPkg::Lock::Timeout=60")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("apt-get update: %w", err)
	}
	failures, others := sortFailures(string(out), sources)
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
