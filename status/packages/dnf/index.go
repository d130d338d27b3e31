package dnf

import (
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	drydockv1 "drydock/api/drydock/v1"

	"github.com/klauspost/compress/zstd"
)

// index is what the repositories' lists say of the packages that have updates.
type index struct {
	wanted map[string]bool // by name
	found  map[string]map[string]rpm
}

// rpm is a package in a repository's list.
type rpm struct {
	Name    string `xml:"name"`
	Arch    string `xml:"arch"`
	Version struct {
		Epoch   string `xml:"epoch,attr"`
		Version string `xml:"ver,attr"`
		Release string `xml:"rel,attr"`
	} `xml:"version"`
	Checksum struct {
		Type string `xml:"type,attr"`
		Sum  string `xml:",chardata"`
	} `xml:"checksum"`
	Size struct {
		Package int64 `xml:"package,attr"`
	} `xml:"size"`
}

// id is the package as dnf names it: without an epoch that is 0.
func (p rpm) id() string {
	evr := p.Version.Version + "-" + p.Version.Release
	if p.Version.Epoch != "" && p.Version.Epoch != "0" {
		evr = p.Version.Epoch + ":" + evr
	}
	return p.Name + " " + evr + " " + p.Arch
}

func newIndex(updates []update) *index {
	x := &index{wanted: make(map[string]bool), found: make(map[string]map[string]rpm)}
	for _, u := range updates {
		x.wanted[u.Name] = true
	}
	return x
}

// offers is the SHA-256 of the update's file in each repository, by its id.
func (x *index) offers(u *drydockv1.PackageUpdate) map[string]string {
	sums := make(map[string]string)
	for id, p := range x.found[u.Name+" "+u.To+" "+u.Arch] {
		if p.Checksum.Type == "sha256" {
			sums[id] = p.Checksum.Sum
			u.DownloadBytes = p.Size.Package
		}
	}
	return sums
}

// read takes in a repository's list of packages.
func (x *index) read(s source, path string, packed io.Reader) error {
	content, err := unpack(path, packed)
	if err != nil {
		return err
	}
	defer content.Close()
	d := xml.NewDecoder(content)
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "package" {
			continue
		}
		var p rpm
		if err := d.DecodeElement(&p, &start); err != nil {
			return err
		}
		if !x.wanted[p.Name] {
			continue
		}
		if x.found[p.id()] == nil {
			x.found[p.id()] = make(map[string]rpm)
		}
		x.found[p.id()][s.wire.Id] = p
	}
}

func unpack(path string, packed io.Reader) (io.ReadCloser, error) {
	switch filepath.Ext(path) {
	case ".gz":
		return gzip.NewReader(packed)
	case ".zst":
		d, err := zstd.NewReader(packed)
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case ".xml":
		return io.NopCloser(packed), nil
	}
	return nil, fmt.Errorf("how it is compressed is not known: gzip and zstd are")
}
