package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const arch = "amd64"

// Archive is one suite with one component, main, below Dir: package files lie in Pool, and whoever serves Dir over HTTP
// offers them.
type Archive struct {
	Dir   string
	Suite string
	// Label ends in Security where what it offers counts as security updates.
	Label string
	Key   *Key
	// Date is when it says that it was made, and Until how long it says that it may be believed.
	Date, Until time.Time
}

// Pool is where its package files lie.
func (a Archive) Pool() string { return filepath.Join(a.Dir, "pool") }

// Line is its entry for sources.list, with the key in a file of the host and the archive at a URL.
func (a Archive) Line(key, url string) string {
	return fmt.Sprintf("deb [signed-by=%s] %s %s main\n", key, url, a.Suite)
}

// Publish writes the indexes for what is in the pool now and signs them. What was published before is replaced, the
// signed statement last.
func (a Archive) Publish(ctx context.Context) error {
	dist := filepath.Join(a.Dir, "dists", a.Suite)
	index := filepath.Join("main", "binary-"+arch, "Packages")
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dist, index)), 0o755); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	packages, err := a.packages(ctx)
	if err != nil {
		return err
	}
	signed, err := a.Key.sign(a.release(index, packages), a.Date)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dist, index), packages, 0o644); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	whole := filepath.Join(dist, "InRelease")
	if err := errors.Join(os.WriteFile(whole+".new", signed, 0o644), os.Rename(whole+".new", whole)); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

// packages is the index of the pool.
func (a Archive) packages(ctx context.Context) ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(a.Pool(), "*.deb"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var index bytes.Buffer
	for _, file := range files {
		control, err := exec.CommandContext(ctx, "dpkg-deb", "--field", file).Output()
		if err != nil {
			return nil, fmt.Errorf("archive: read %s: %w", file, err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		fmt.Fprintf(&index, "%s\nFilename: pool/%s\nSize: %d\nSHA256: %x\n\n",
			bytes.TrimSpace(control), filepath.Base(file), len(data), sha256.Sum256(data))
	}
	return index.Bytes(), nil
}

// release is the statement that is signed: what the archive is, and which index it has.
func (a Archive) release(index string, packages []byte) string {
	var text strings.Builder
	for _, field := range [][2]string{
		{"Origin", "Drydock lab"}, {"Label", a.Label}, {"Suite", a.Suite}, {"Codename", a.Suite},
		{"Date", stamp(a.Date)}, {"Valid-Until", stamp(a.Until)}, {"Architectures", arch}, {"Components", "main"},
	} {
		fmt.Fprintf(&text, "%s: %s\n", field[0], field[1])
	}
	fmt.Fprintf(&text, "SHA256:\n %x %d %s\n", sha256.Sum256(packages), len(packages), index)
	return text.String()
}

func stamp(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC") }
