package repository

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

var versionField = regexp.MustCompile(`(?m)^Version: (.+)$`)

// Rebuild makes a newer build of a package file, in the directory to: the same files under a version with suffix behind it.
// Edit, if there is one, may change the unpacked package first, whose control files lie in DEBIAN. The new file's path is returned.
func Rebuild(ctx context.Context, deb, to, suffix string, edit func(tree string) error) (string, error) {
	built, err := rebuild(ctx, deb, to, suffix, edit)
	if err != nil {
		return "", fmt.Errorf("rebuild %s: %w", filepath.Base(deb), err)
	}
	return built, nil
}

func rebuild(ctx context.Context, deb, to, suffix string, edit func(string) error) (built string, err error) {
	work, err := os.MkdirTemp(to, "rebuild-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	tree := filepath.Join(work, "tree")
	if err := dpkgDeb(ctx, "--raw-extract", deb, tree); err != nil {
		return "", err
	}
	if err := raiseVersion(filepath.Join(tree, "DEBIAN", "control"), suffix); err != nil {
		return "", err
	}
	if edit != nil {
		if err := edit(tree); err != nil {
			return "", err
		}
	}
	name := filepath.Base(deb)
	version := strings.LastIndexByte(name, '_')
	if version < 0 {
		return "", errors.New("its name has no version in it")
	}
	built = filepath.Join(to, name[:version]+suffix+name[version:])
	// Fast rather than small: it goes over the lab's own switch only.
	return built, dpkgDeb(ctx, "-Zgzip", "-z1", "--build", tree, built)
}

// raiseVersion puts the suffix behind the version in a control file.
func raiseVersion(control, suffix string) error {
	text, err := os.ReadFile(control)
	if err != nil {
		return err
	}
	if !versionField.Match(text) {
		return fmt.Errorf("%s has no version", control)
	}
	return os.WriteFile(control, versionField.ReplaceAll(text, []byte("Version: ${1}"+suffix)), 0o644)
}

func dpkgDeb(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "dpkg-deb", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("dpkg-deb %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}
