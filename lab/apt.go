package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// mirror is where Debian's packages come from.
type mirror struct {
	archive, security string
}

// machineMirror is the mirror that this machine's apt takes Debian from, or Debian's own where apt knows none.
func machineMirror(ctx context.Context) (mirror, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Component: main").Output()
	if err != nil {
		return mirror{}, fmt.Errorf("ask apt for its mirror: %w", err)
	}
	return parseMirrors(string(out)), nil
}

func parseMirrors(targets string) mirror {
	m := mirror{archive: "http://deb.debian.org/debian", security: "http://deb.debian.org/debian-security"}
	found := map[string]bool{}
	for line := range strings.Lines(targets) {
		label, uri, _ := strings.Cut(strings.TrimSpace(line), "|")
		uri = strings.TrimSuffix(uri, "/")
		if found[label] || !strings.HasPrefix(uri, "http") {
			continue
		}
		found[label] = true
		switch label {
		case "Debian":
			m.archive = uri
		case "Debian-Security":
			m.security = uri
		}
	}
	return m
}

// toolPackages are the Debian packages for making a root, with a file that is there once each is installed.
func toolPackages() map[string]string {
	return map[string]string{
		"mmdebstrap":             "/usr/bin/mmdebstrap",
		"debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
	}
}

// installTools installs what this machine lacks, after saying so.
func installTools(ctx context.Context, progress io.Writer) error {
	var missing []string
	for _, name := range []string{"mmdebstrap", "debian-archive-keyring"} {
		if _, err := os.Stat(toolPackages()[name]); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return installPackages(ctx, progress, missing)
}

func installPackages(ctx context.Context, progress io.Writer, missing []string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.Join(fmt.Errorf("%s missing, and there is no apt-get to install it: labs need Debian 12 or 13",
			strings.Join(missing, ", ")), err)
	}
	fmt.Fprintf(progress, "installing on this machine: %s\n", strings.Join(missing, ", "))
	install := append([]string{"install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"}, missing...)
	for _, argv := range [][]string{{"update", "-o", "DPkg::Lock::Timeout=120"}, install} {
		cmd := exec.CommandContext(ctx, "apt-get", argv...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if err := runQuietly(cmd); err != nil {
			return fmt.Errorf("install %s: %w", strings.Join(missing, ", "), err)
		}
	}
	return nil
}
