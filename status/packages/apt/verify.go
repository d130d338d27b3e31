package apt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/status/packages"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// futureTolerance is how far an archive's clock may be ahead of the host's.
const futureTolerance = 10 * time.Minute

// verify looks at every source's signature, dates and indexes, and reads the indexes into the index.
func (a *Apt) verify(ctx context.Context, p paths, sources []*source, into *index) error {
	dir, err := os.MkdirTemp("", "drydock-verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// apt's method reads as a user of its own.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	known, err := a.Memory.Read()
	if err != nil {
		return err
	}
	method, err := a.method(ctx, p)
	if err != nil {
		return err
	}
	var failed error
	for i, s := range sources {
		copied, err := s.copyTo(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("source %s: %w", s.wire.Id, err))
			continue
		}
		s.remember(known)
		if copied == nil {
			continue
		}
		if err := a.verifySource(ctx, method, s, copied, into); err != nil {
			failed = errors.Join(failed, fmt.Errorf("source %s: %w", s.wire.Id, err))
			s.fault(drydockv1.MetadataFault_METADATA_FAULT_MISSING, "see that the agent can read it", "it could not be verified: %v", err)
		}
	}
	return failed
}

func (s *source) fault(fault drydockv1.MetadataFault, remedy, format string, args ...any) {
	s.wire.Problems = append(s.wire.Problems, packages.Problem(fault, remedy, format, args...))
}

// remember takes over what the last refresh was told.
func (s *source) remember(known packages.Remembered) {
	if failure := known.Failed(s.base, s.written()); failure != "" {
		fault, remedy := s.turnedDown(failure)
		s.fault(fault, remedy, "the last refresh failed: %s", failure)
	}
	s.confirmedAt(known.Confirmed[s.base])
}

// turnedDown is the fault of a source for which apt has complained, and what would mend it. What apt says is made for people, and
// differs between its versions; the order is that of how sure it is what is meant.
func (s *source) turnedDown(complaint string) (fault drydockv1.MetadataFault, remedy string) {
	for _, known := range []struct {
		signs  []string
		fault  drydockv1.MetadataFault
		remedy string
	}{
		{[]string{"GPG error", "signature verification", "verify signature"}, drydockv1.MetadataFault_METADATA_FAULT_BAD_SIGNATURE, s.signedRemedy()},
		{[]string{"not signed", "no longer signed"}, drydockv1.MetadataFault_METADATA_FAULT_UNSIGNED, s.unsignedRemedy()},
		{[]string{"is expired"}, drydockv1.MetadataFault_METADATA_FAULT_EXPIRED, s.outOfDateRemedy()},
		{[]string{"not valid yet"}, drydockv1.MetadataFault_METADATA_FAULT_NOT_YET_VALID, clockRemedy},
		{[]string{"changed its"}, drydockv1.MetadataFault_METADATA_FAULT_REFRESH_FAILED,
			"see that it is the right archive, then run `apt-get update --allow-releaseinfo-change` on the host"},
	} {
		if slices.ContainsFunc(known.signs, func(sign string) bool { return strings.Contains(complaint, sign) }) {
			return known.fault, known.remedy
		}
	}
	return drydockv1.MetadataFault_METADATA_FAULT_REFRESH_FAILED, "bring the archive back, or mend its entry " + s.wire.Configured + "; then refresh"
}

const clockRemedy = "set the host's clock right"

func (s *source) signedRemedy() string {
	return "see that the archive is the right one and that signed-by in " + s.wire.Configured + " names its key; then refresh"
}

func (s *source) unsignedRemedy() string {
	return "remove the entry " + s.wire.Configured + ", or have the archive signed and name its key with signed-by"
}

func (s *source) outOfDateRemedy() string {
	return "refresh the host's package lists (`drydock status HOST --refresh`); where the archive itself is out of date, ask its keeper, or remove " + s.wire.Configured
}

// copies are a source's Release files, taken aside: what is verified must be what is read.
type copies struct {
	file, signature string
	data            []byte
}

// copyTo takes the Release file aside; nil where there is none, or none that is signed, which is then the source's problem.
func (s *source) copyTo(path string) (*copies, error) {
	remedy := s.unsignedRemedy()
	if told := s.told(); told != "" {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_UNSIGNED, "remove "+told+" from "+s.wire.Configured+", and name the archive's key with signed-by",
			"apt is told by %s not to verify it", told)
	}
	for _, name := range []string{"InRelease", "Release"} {
		data, err := os.ReadFile(s.prefix + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.confirmedAt(changed(s.prefix + name)) // whoever had apt fetch it
		c := &copies{file: path, signature: path, data: data}
		if name == "Release" {
			c.signature = path + ".gpg"
			signature, err := os.ReadFile(s.prefix + name + ".gpg")
			if errors.Is(err, fs.ErrNotExist) {
				s.fault(drydockv1.MetadataFault_METADATA_FAULT_UNSIGNED, remedy, "it is not signed: there is a Release file, but neither InRelease nor Release.gpg")
				return nil, nil
			}
			if err == nil {
				err = os.WriteFile(c.signature, signature, 0o644)
			}
			if err != nil {
				return nil, err
			}
		}
		return c, os.WriteFile(c.file, data, 0o644)
	}
	for _, t := range s.indexes {
		if t.file != "" {
			s.fault(drydockv1.MetadataFault_METADATA_FAULT_UNSIGNED, remedy, "it is not signed: it has no Release file")
			return nil, nil
		}
	}
	s.fault(drydockv1.MetadataFault_METADATA_FAULT_MISSING, "refresh the host's package lists: `drydock status HOST --refresh`",
		"it was never fetched, or what was fetched was turned down")
	return nil, nil
}

// verifySource goes from the signature to the dates to the indexes, and ends with the first that does not hold.
func (a *Apt) verifySource(ctx context.Context, m *method, s *source, c *copies, into *index) error {
	verdict, err := m.verify(ctx, c.signature, c.file, s.signedBy())
	if err != nil {
		return err
	}
	if verdict.failure != "" {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_BAD_SIGNATURE, s.signedRemedy(), "its signature is not good: %s", verdict.failure)
		return nil
	}
	s.wire.Keys = verdict.keys
	signed := c.data
	if c.signature == c.file {
		if signed, err = signedPart(c.data); err != nil {
			s.fault(drydockv1.MetadataFault_METADATA_FAULT_TAMPERED, "refresh the host's package lists: `drydock status HOST --refresh`", "its InRelease file is not what was signed: %v", err)
			return nil
		}
	}
	if s.release, err = parseRelease(signed); err != nil {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_TAMPERED, "refresh the host's package lists: `drydock status HOST --refresh`", "its Release file cannot be understood: %v", err)
		return nil
	}
	s.describe()
	if err := a.dates(s); err != nil {
		return err
	}
	for _, t := range s.indexes {
		if err := a.readIndex(ctx, s, t, into); err != nil {
			return err
		}
	}
	return nil
}

// describe takes over what the Release file says of itself.
func (s *source) describe() {
	w, r := s.wire, s.release
	w.Origin, w.Label, w.Codename, w.Date = r.origin, r.label, r.codename, timestamppb.New(r.date)
	if r.suite != "" {
		w.Suite = r.suite
	}
	if !r.validUntil.IsZero() {
		w.ValidUntil = timestamppb.New(r.validUntil)
	}
	w.Security = strings.HasSuffix(strings.ToLower(r.label), "security")
	for _, name := range []string{r.suite, r.codename} {
		w.Security = w.Security || strings.HasSuffix(name, "-security") || strings.HasSuffix(name, "/updates")
	}
}

// dates holds the source's dates against the clock and against what was seen before. It goes by the metadata alone: that apt
// was told not to look at dates does not make old metadata new.
func (a *Apt) dates(s *source) error {
	now, r := a.Now(), s.release
	refresh := s.outOfDateRemedy()
	if !r.validUntil.IsZero() && now.After(r.validUntil) {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_EXPIRED, refresh, "it expired on %s", r.validUntil.Format(time.RFC3339))
	}
	if r.date.After(now.Add(futureTolerance)) {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_NOT_YET_VALID, clockRemedy,
			"it was made on %s, but the host's clock says %s", r.date.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		return nil // its date must not count as the newest that was seen
	}
	newest, err := a.Memory.See(s.base, r.date)
	if err != nil {
		return err
	}
	if r.date.Before(newest) {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_ROLLED_BACK, "refresh the host's package lists; where the archive's keeper put it back on purpose, remove "+
			s.base+" from "+a.Memory.Path()+" on the host", "it is of %s, but one of %s was seen before", r.date.Format(time.RFC3339), newest.Format(time.RFC3339))
	}
	if confirmed := s.wire.Confirmed.AsTime(); a.MaxAge > 0 && now.Sub(confirmed) > a.MaxAge {
		s.fault(drydockv1.MetadataFault_METADATA_FAULT_STALE, refresh, "it was last compared with the archive on %s, more than %s ago", confirmed.Format(time.RFC3339), a.MaxAge)
	}
	return nil
}

// written is when its Release file was put here.
func (s *source) written() time.Time {
	newest := changed(s.prefix + "InRelease")
	if at := changed(s.prefix + "Release"); at.After(newest) {
		newest = at
	}
	return newest
}

// confirmedAt notes that the archive offered the metadata at a moment.
func (s *source) confirmedAt(at time.Time) {
	if at.After(s.wire.Confirmed.AsTime()) {
		s.wire.Confirmed = timestamppb.New(at)
	}
}
