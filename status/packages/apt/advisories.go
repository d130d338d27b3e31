package apt

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

// Debian's package indexes name no advisories. Their ids come from what else lies on the host, where it does:
//   - in Advisories, tracker.json: https://security-tracker.debian.org/tracker/data/json
//   - in Advisories, dsa-list: https://salsa.debian.org/security-tracker-team/security-tracker/-/raw/master/data/DSA/list
//   - the changelog inside the update's package file, once that has been downloaded and has the hash that was verified.
//
// They are a help to people: nothing is installed or left because of them.
const (
	trackerFile = "tracker.json"
	dsaFile     = "dsa-list"
)

// advise notes the advisories on each update. An update that fixes an advisory is one of security.
func (a *Apt) advise(ctx context.Context, p paths, updates []*drydockv1.PackageUpdate, sources []*drydockv1.PackageSource, x *index) error {
	changes := sourceChanges(updates, x)
	var failed error
	if a.Advisories != "" {
		codenames := make(map[string]bool)
		for _, s := range sources {
			name, _, _ := strings.Cut(s.Codename, "-")
			codenames[name] = true
		}
		failed = errors.Join(
			withFile(filepath.Join(a.Advisories, trackerFile), func(r io.Reader) error { return readTracker(r, changes, codenames) }),
			withFile(filepath.Join(a.Advisories, dsaFile), func(r io.Reader) error { return readDSAs(r, changes, codenames) }),
		)
	}
	for _, c := range changes {
		if err := a.readChangelog(ctx, p, c); err != nil {
			failed = errors.Join(failed, err)
		}
		slices.Sort(c.ids)
		c.update.Advisories = slices.Compact(c.ids)
		c.update.Security = c.update.Security || len(c.ids) > 0
	}
	return failed
}

// sourceChange is an update in terms of its source package.
type sourceChange struct {
	update              *drydockv1.PackageUpdate
	source, above, upTo string
	ids                 []string
}

func sourceChanges(updates []*drydockv1.PackageUpdate, x *index) []*sourceChange {
	var changes []*sourceChange
	for _, u := range updates {
		for _, o := range x.of(u) {
			if o.version == u.To {
				changes = append(changes, &sourceChange{update: u, source: o.sourceName, above: x.sourceVersion(u, o), upTo: o.sourceVersion})
				break
			}
		}
	}
	return changes
}

// sourceVersion is the source version of what an update takes the place of. A binary package's own version differs from it in
// rare cases only, and then by more than a revision; the index of what is installed knows.
func (x *index) sourceVersion(u *drydockv1.PackageUpdate, to offer) string {
	if from, ok := x.have[u.Name+":"+u.Arch]; ok && from.sourceName == to.sourceName {
		return from.sourceVersion
	}
	return u.From
}

// fixedIn says whether a version that fixes something lies above what is installed, and not above the update.
func (c *sourceChange) fixedIn(version string) bool {
	return c.above != "" && Compare(version, c.above) > 0 && Compare(version, c.upTo) <= 0
}

func withFile(path string, read func(io.Reader) error) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := read(bufio.NewReaderSize(f, 1<<16)); err != nil {
		return fmt.Errorf("advisories in %s: %w", path, err)
	}
	return nil
}

// readTracker reads the tracker's JSON, source package by source package: all of it at once would take much memory.
func readTracker(r io.Reader, changes []*sourceChange, codenames map[string]bool) error {
	type issue struct {
		Releases map[string]struct {
			Status  string `json:"status"`
			FixedIn string `json:"fixed_version"`
		} `json:"releases"`
	}
	bySource := make(map[string][]*sourceChange)
	for _, c := range changes {
		bySource[c.source] = append(bySource[c.source], c)
	}
	d := json.NewDecoder(r)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("it holds no object: %w", err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		concerned := bySource[fmt.Sprint(name)]
		if len(concerned) == 0 {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return err
			}
			continue
		}
		var issues map[string]issue
		if err := d.Decode(&issues); err != nil {
			return err
		}
		for id, i := range issues {
			for codename, fix := range i.Releases {
				for _, c := range concerned {
					if codenames[codename] && fix.Status == "resolved" && c.fixedIn(fix.FixedIn) {
						c.ids = append(c.ids, id)
					}
				}
			}
		}
	}
	return nil
}

var (
	dsaHead = regexp.MustCompile(`^\[[^]]*\] (D[SL]A-\d+(?:-\d+)?) `)
	dsaFix  = regexp.MustCompile(`^\s+\[(\w+)\] - (\S+) (\S+)`)
	anyID   = regexp.MustCompile(`\b(?:CVE-\d{4}-\d{4,}|D[SL]A-\d+(?:-\d+)?)\b`)
)

// readDSAs reads the tracker's list of DSAs, in which every advisory is followed by what it fixes, and where.
func readDSAs(r io.Reader, changes []*sourceChange, codenames map[string]bool) error {
	var ids []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if m := dsaHead.FindStringSubmatch(line); m != nil {
			ids = []string{m[1]}
		} else if strings.HasPrefix(strings.TrimSpace(line), "{") {
			ids = append(ids, anyID.FindAllString(line, -1)...)
		} else if m := dsaFix.FindStringSubmatch(line); m != nil && codenames[m[1]] {
			for _, c := range changes {
				if c.source == m[2] && c.fixedIn(m[3]) {
					c.ids = append(c.ids, ids...)
				}
			}
		}
	}
	return lines.Err()
}

// readChangelog reads the changelog in the update's package file, where that lies here and is the one that was verified.
func (a *Apt) readChangelog(ctx context.Context, p paths, c *sourceChange) error {
	u := c.update
	name := fmt.Sprintf("%s_%s_%s.deb", u.Name, strings.ReplaceAll(u.To, ":", "%3a"), u.Arch)
	file := filepath.Join(p.archives, name)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || c.above == "" {
		return nil
	}
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != u.Sha256 {
		return nil // another file of that name, or one that is not verified
	}
	content, err := a.run(ctx, "dpkg-deb", "--fsys-tarfile", file)
	if err != nil {
		return err
	}
	log, err := changelogIn(strings.NewReader(content), u.Name)
	if err != nil {
		return fmt.Errorf("changelog in %s: %w", file, err)
	}
	c.ids = append(c.ids, idsSince(log, c)...)
	return nil
}

// changelogIn finds a package's changelog in the tree of its files: Debian's own where there are two.
func changelogIn(r io.Reader, name string) ([]byte, error) {
	var found []byte
	files := tar.NewReader(r)
	for {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		base := strings.TrimPrefix(head.Name, "./usr/share/doc/"+name+"/")
		if base != "changelog.Debian.gz" && (base != "changelog.gz" || found != nil) {
			continue
		}
		unpacked, err := gzip.NewReader(files)
		if err != nil {
			return nil, err
		}
		if found, err = io.ReadAll(io.LimitReader(unpacked, 16<<20)); err != nil {
			return nil, err
		}
	}
}

var changelogHead = regexp.MustCompile(`^\S+ \(([^)]+)\) `)

// idsSince are the ids that a changelog names in the entries that the update adds.
func idsSince(log []byte, c *sourceChange) []string {
	var ids []string
	adds := false
	for line := range bytes.Lines(log) {
		if m := changelogHead.FindSubmatch(line); m != nil {
			adds = c.fixedIn(string(m[1]))
		}
		if adds {
			for _, id := range anyID.FindAll(line, -1) {
				ids = append(ids, string(id))
			}
		}
	}
	return ids
}
