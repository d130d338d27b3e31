package apt

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	drydockv1 "drydock/api/drydock/v1"
)

// index is what the sources' indexes say of the packages that matter on this host.
type index struct {
	wanted map[string]bool      // by name
	have   map[string]installed // by name and architecture
	found  []offer
}

// offer is one version of one package in one source.
type offer struct {
	name, arch, version string
	// source package and its version, which advisories speak of.
	sourceName, sourceVersion string
	sha256                    string
	size                      int64
	from                      *drydockv1.PackageSource
}

func newIndex(list []installed, updates []*drydockv1.PackageUpdate) *index {
	x := &index{wanted: make(map[string]bool), have: make(map[string]installed)}
	for _, p := range list {
		x.wanted[p.name] = true
		x.have[p.name+":"+p.arch] = p
	}
	for _, u := range updates {
		x.wanted[u.Name] = true
	}
	return x
}

// of are the offers that may take the place of a package's update.
func (x *index) of(u *drydockv1.PackageUpdate) []offer {
	var list []offer
	for _, o := range x.found {
		if o.name == u.Name && (o.arch == u.Arch || o.arch == "all") {
			list = append(list, o)
		}
	}
	return list
}

// offers is the SHA-256 of the update's file in each source, by the source's id.
func (x *index) offers(u *drydockv1.PackageUpdate) map[string]string {
	sums := make(map[string]string)
	for _, o := range x.of(u) {
		if o.version == u.To {
			sums[o.from.Id] = o.sha256
			u.DownloadBytes = o.size
		}
	}
	return sums
}

// classify marks the updates that bring a security fix: a version above the installed one, up to the update's, that a security
// archive offers. A later version from elsewhere holds the fix too.
func (x *index) classify(updates []*drydockv1.PackageUpdate) {
	for _, u := range updates {
		u.Security = slices.ContainsFunc(x.of(u), func(o offer) bool {
			above := u.From == "" || Compare(o.version, u.From) > 0
			return o.from.Security && above && Compare(o.version, u.To) <= 0
		})
	}
}

// readIndex reads one index and compares all of it with what the verified Release file says of it. What was read of one that
// differs stays in the index, and so do the updates that come of it: they are blocked by the source's problem.
func (a *Apt) readIndex(ctx context.Context, s *source, t target, into *index) error {
	refresh := "refresh the host's package lists: `drydock status HOST --refresh`"
	if t.file == "" {
		listed, found := s.release.files[t.metaKey]
		if found && listed.size > 0 && t.arch != "all" {
			s.fault(drydockv1.MetadataFault_METADATA_FAULT_MISSING, refresh, "its index %s does not lie here", t.metaKey)
		}
		return nil
	}
	listed, ok := s.release.files[t.metaKey]
	if !ok {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_TAMPERED, refresh, "its signed Release file does not vouch for the index %s that lies here as %s", t.metaKey, t.file)
		return nil
	}
	got, err := a.scan(ctx, t.file, func(fields map[string]string) { into.add(s, fields) })
	if err != nil {
		return err
	}
	if got != listed.sha256 {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_TAMPERED, "remove "+t.file+" on the host, then refresh",
			"its index %s is not the one that was signed: SHA-256 %s, signed is %s", t.metaKey, got, listed.sha256)
	}
	return nil
}

// scan reads an index, whatever apt compressed it with, hands each stanza on, and returns the SHA-256 of what it read.
func (a *Apt) scan(ctx context.Context, file string, each func(map[string]string)) (string, error) {
	cmd := a.command(ctx, "/usr/lib/apt/apt-helper", "cat-file", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	sum := sha256.New()
	rerr := stanzas(io.TeeReader(out, sum), each)
	if err := errors.Join(rerr, cmd.Wait()); err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// stanzas hands on the fields of each stanza that are on one line.
func stanzas(r io.Reader, each func(map[string]string)) error {
	lines := bufio.NewReaderSize(r, 1<<16)
	fields := make(map[string]string)
	for {
		line, err := lines.ReadString('\n')
		switch text := strings.TrimRight(line, "\r\n"); {
		case text == "":
			if len(fields) > 0 {
				each(fields)
			}
			clear(fields)
		case text[0] != ' ' && text[0] != '\t':
			key, value, _ := strings.Cut(text, ":")
			fields[key] = strings.TrimSpace(value)
		}
		if errors.Is(err, io.EOF) {
			if len(fields) > 0 {
				each(fields)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (x *index) add(s *source, fields map[string]string) {
	name := fields["Package"]
	if !x.wanted[name] {
		return
	}
	o := offer{name: name, arch: fields["Architecture"], version: fields["Version"], sha256: fields["SHA256"], from: s.wire}
	o.size, _ = strconv.ParseInt(fields["Size"], 10, 64)
	o.sourceName, o.sourceVersion = name, o.version
	if src := fields["Source"]; src != "" {
		var version string
		o.sourceName, version, _ = strings.Cut(src, " ")
		if version = strings.Trim(version, "()"); version != "" {
			o.sourceVersion = version
		}
	}
	x.found = append(x.found, o)
}
