package dnf

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// repo is a repository as dnf is configured to use it.
type repo struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	File     string   `json:"file"`
	URI      string   `json:"uri"`
	Dir      string   `json:"dir"`
	Verified bool     `json:"repo_gpgcheck"`
	Keys     []string `json:"keys"`
	// Expire is metadata_expire in seconds; -1: never.
	Expire int64 `json:"expire"`
}

// key is what the repository is remembered by.
func (r repo) key() string { return r.ID + " " + r.URI }

// list is its repomd.xml in dnf's cache.
func (r repo) list() string { return filepath.Join(r.Dir, "repodata", "repomd.xml") }

type source struct{ wire *drydockv1.PackageSource }

func (r repo) source() source {
	return source{&drydockv1.PackageSource{Id: r.ID, Uri: r.URI, Label: r.ID, Configured: r.File}}
}

func (s source) fault(fault drydockv1.MetadataFault, remedy, format string, args ...any) {
	s.wire.Problems = append(s.wire.Problems, packages.Problem(fault, remedy, format, args...))
}

// repomd is a repository's list of its files.
type repomd struct {
	Data []struct {
		Type     string `xml:"type,attr"`
		Checksum struct {
			Type string `xml:"type,attr"`
			Sum  string `xml:",chardata"`
		} `xml:"checksum"`
		Location struct {
			Href string `xml:"href,attr"`
		} `xml:"location"`
		Timestamp float64 `xml:"timestamp"`
	} `xml:"data"`
}

const refreshRemedy = "refresh the host's package lists: `drydock status HOST --refresh`"

// verify goes from the signature to the dates to the files. The files of a repository with a problem are read too, so that the
// updates that come of it can be listed as blocked by it.
func (d *Dnf) verify(ctx context.Context, r repo, s source, known packages.Remembered, into *index) error {
	if failure := known.Failed(r.key(), changed(r.list())); failure != "" {
		fault, remedy := r.turnedDown(failure)
		s.fault(fault, remedy, "the last refresh failed: %s", failure)
	}
	path := r.list()
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_MISSING, refreshRemedy, "it was never fetched, or what was fetched was turned down")
		return nil
	}
	if err != nil {
		return err
	}
	confirmed := changed(path)
	if at := known.Confirmed[r.key()]; at.After(confirmed) {
		confirmed = at
	}
	s.wire.Confirmed = timestamppb.New(confirmed)
	if err := d.signature(ctx, r, s, path, data); err != nil {
		return err
	}
	var list repomd
	if err := xml.Unmarshal(data, &list); err != nil {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_TAMPERED, refreshRemedy, "its repomd.xml cannot be understood: %v", err)
		return nil
	}
	if err := d.dates(r, s, list); err != nil {
		return err
	}
	return readFiles(r, s, list, into)
}

// turnedDown is the fault of a repository for which dnf has complained, and what would mend it.
func (r repo) turnedDown(complaint string) (fault drydockv1.MetadataFault, remedy string) {
	switch {
	case strings.Contains(complaint, "GPG signature is not available"):
		return drydockv1.MetadataFault_METADATA_FAULT_UNSIGNED, unsignedRemedy
	case strings.Contains(complaint, "GPG signature verification"):
		return drydockv1.MetadataFault_METADATA_FAULT_BAD_SIGNATURE, r.signedRemedy()
	}
	return drydockv1.MetadataFault_METADATA_FAULT_REFRESH_FAILED, "bring the repository back, or mend it in " + r.File + "; then refresh"
}

const unsignedRemedy = "have the repository sign its repomd.xml, then refresh"

func (r repo) signedRemedy() string {
	return "see that the repository is the right one and that gpgkey in " + r.File + " names its key; then refresh"
}

// signature has gpgv verify the bytes of repomd.xml that were read, with the repository's keys and no others.
func (d *Dnf) signature(ctx context.Context, r repo, s source, path string, data []byte) error {
	if !r.Verified {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_UNSIGNED, "set repo_gpgcheck=1 and gpgkey in "+r.File+", where the repository signs its repomd.xml; otherwise mirror it and sign that",
			"dnf is told by repo_gpgcheck=0 not to verify its metadata")
		return nil
	}
	signature, err := os.ReadFile(path + ".asc")
	if errors.Is(err, fs.ErrNotExist) {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_UNSIGNED, unsignedRemedy, "it is not signed: there is no repomd.xml.asc")
		return nil
	}
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "drydock-verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := r.keyring(ctx, dir); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"repomd.xml": data, "repomd.xml.asc": signature} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	out, err := exec.CommandContext(ctx, "gpgv", "--status-fd", "1", "--weak-digest", "SHA1", "--keyring", filepath.Join(dir, "keys.gpg"),
		filepath.Join(dir, "repomd.xml.asc"), filepath.Join(dir, "repomd.xml")).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("verify its signature: %w; install gpgv", err)
	}
	for _, m := range validSignature.FindAllStringSubmatch(string(out), -1) {
		s.wire.Keys = append(s.wire.Keys, m[1])
	}
	if exit != nil || len(s.wire.Keys) == 0 {
		s.wire.Keys = nil
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_BAD_SIGNATURE, r.signedRemedy(), "its signature is not good: %s", strings.Join(badSignature.FindAllString(string(out), -1), ", "))
	}
	return nil
}

var (
	validSignature = regexp.MustCompile(`(?m)^\[GNUPG:\] VALIDSIG (\w+)`)
	badSignature   = regexp.MustCompile(`(?:BADSIG|NO_PUBKEY|EXPKEYSIG|EXPSIG|REVKEYSIG|ERRSIG|NODATA) \w+`)
)

// keyring writes the repository's keys to keys.gpg: from their files on the host; where one is elsewhere, those that dnf took
// into its keyring of the repository when it was asked to trust them.
func (r repo) keyring(ctx context.Context, dir string) error {
	ring, err := os.Create(filepath.Join(dir, "keys.gpg"))
	if err != nil {
		return err
	}
	defer ring.Close()
	local := !slices.ContainsFunc(r.Keys, func(key string) bool { return !strings.HasPrefix(key, "file:") })
	if !local {
		return gpg(ctx, ring, "--homedir", filepath.Join(r.Dir, "pubring"), "--export")
	}
	for _, key := range r.Keys {
		if err := gpg(ctx, ring, "--homedir", dir, "--dearmor", "--output", "-", strings.TrimPrefix(strings.TrimPrefix(key, "file:"), "//")); err != nil {
			return err
		}
	}
	return nil
}

func gpg(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "gpg", append([]string{"--batch", "--quiet", "--no-autostart"}, args...)...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("its keys: gpg: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// dates holds the repository's age against its own metadata_expire and against what was seen before. dnf's metadata says when
// it was made, but not until when it is valid.
func (d *Dnf) dates(r repo, s source, list repomd) error {
	now := d.Now()
	var seconds float64
	for _, file := range list.Data {
		seconds = max(seconds, file.Timestamp)
	}
	date := time.Unix(int64(seconds), 0).UTC()
	s.wire.Date = timestamppb.New(date)
	if date.After(now.Add(10 * time.Minute)) {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_NOT_YET_VALID, "set the host's clock right", "it was made on %s, but the host's clock says %s",
			date.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		return nil
	}
	confirmed := s.wire.Confirmed.AsTime()
	if limit := time.Duration(r.Expire) * time.Second; r.Expire >= 0 && now.Sub(confirmed) > limit {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_EXPIRED, refreshRemedy, "it was fetched on %s and expired %s later, as metadata_expire says", confirmed.Format(time.RFC3339), limit)
	} else if r.Expire < 0 && d.MaxAge > 0 && now.Sub(confirmed) > d.MaxAge {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_STALE, refreshRemedy, "it was last compared with its mirror on %s, more than %s ago", confirmed.Format(time.RFC3339), d.MaxAge)
	}
	if len(s.wire.Keys) == 0 {
		return nil // anybody could have made it: its date must not count as seen
	}
	newest, err := d.Memory.See(r.key(), date)
	if err != nil {
		return err
	}
	if date.Before(newest) {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_ROLLED_BACK, "refresh the host's package lists; where the repository's keeper put it back on purpose, remove "+
			r.key()+" from "+d.Memory.Path()+" on the host", "it is of %s, but one of %s was seen before", date.Format(time.RFC3339), newest.Format(time.RFC3339))
	}
	return nil
}

// readFiles compares every file of the repository that lies here with its checksum, and reads the list of packages.
func readFiles(r repo, s source, list repomd, into *index) error {
	primary := false
	for _, file := range list.Data {
		path := filepath.Join(r.Dir, "repodata", filepath.Base(file.Location.Href))
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // dnf fetches the files that it needs only
		}
		if err != nil {
			return err
		}
		sum, err := newSum(file.Checksum.Type)
		if err == nil {
			content := io.TeeReader(f, sum)
			if file.Type == "primary" {
				primary = true
				err = into.read(s, path, content)
			}
			_, cerr := io.Copy(io.Discard, content)
			err = errors.Join(err, cerr)
		}
		f.Close()
		if err != nil {
			s.fault(drydockv1.MetadataFault_METADATA_FAULT_TAMPERED, "remove "+r.Dir+" on the host, then refresh", "its file %s cannot be read: %v", file.Location.Href, err)
		} else if got := hex.EncodeToString(sum.Sum(nil)); got != strings.TrimSpace(file.Checksum.Sum) {
			s.fault(drydockv1.MetadataFault_METADATA_FAULT_TAMPERED, "remove "+r.Dir+" on the host, then refresh",
				"its file %s is not the one that was signed: %s %s, signed is %s", file.Location.Href, file.Checksum.Type, got, strings.TrimSpace(file.Checksum.Sum))
		}
	}
	if !primary {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_MISSING, refreshRemedy, "its list of packages does not lie here")
	}
	return nil
}

func newSum(name string) (hash.Hash, error) {
	switch name {
	case "sha256":
		return sha256.New(), nil
	case "sha512":
		return sha512.New(), nil
	}
	return nil, fmt.Errorf("its checksum %q is not one that can be relied on", name)
}

// changed is when a file was last written or put in its place.
func changed(path string) time.Time {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return time.Time{}
	}
	return time.Unix(stat.Ctim.Unix())
}
