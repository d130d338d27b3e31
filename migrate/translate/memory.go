package translate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/pagemap"
	"google.golang.org/protobuf/encoding/protowire"
)

const pageSize = 4096

// What CRIU says of a run of pages: that it is in an earlier round of pre-copy, and that the images have it.
const (
	inParent = 1 << 0
	present  = 1 << 2
)

// memory finds a process's pages in its images, and in those of the rounds before.
type memory struct {
	pages string // the file
	runs  []run
	// before is the round before; nil where there is none.
	before *memory
}

// run is pages one behind the other, both in memory and in the file.
type run struct {
	from, to uint64
	offset   int64
	parent   bool
}

// openMemory reads where the pages are. CRIU's link to the images of the round before is called parent.
func openMemory(images string, process uint32) (*memory, error) {
	i, err := readImage(filepath.Join(images, fmt.Sprintf("pagemap-%d.img", process)))
	if err != nil {
		return nil, err
	}
	head := new(pagemap.PagemapHead)
	if err := i.decode(0, head); err != nil {
		return nil, err
	}
	m := &memory{pages: filepath.Join(images, fmt.Sprintf("pages-%d.img", head.GetPagesId()))}
	offset := int64(0)
	for n := 1; n < len(i.entries); n++ {
		entry := new(pagemap.PagemapEntry)
		if err := i.decode(n, entry); err != nil {
			return nil, err
		}
		size := pagesIn(entry) * pageSize
		r := run{from: entry.GetVaddr(), to: entry.GetVaddr() + size, offset: offset}
		r.parent = entry.GetInParent() || entry.GetFlags()&inParent != 0
		if !r.parent && entry.Flags != nil && entry.GetFlags()&present == 0 {
			continue // in no image
		}
		if !r.parent {
			offset += int64(size)
		}
		m.runs = append(m.runs, r)
	}
	return m, m.openBefore(images, process)
}

func (m *memory) openBefore(images string, process uint32) error {
	parent := filepath.Join(images, "parent")
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	before, err := openMemory(parent, process)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it began after that round
	}
	m.before = before
	return err
}

// pagesIn is the number of pages in a run. CRIU 4.2 says it in a field that is wider, and leaves the old one 0.
func pagesIn(entry *pagemap.PagemapEntry) uint64 {
	const wide = 5
	pages := uint64(entry.GetNrPages())
	for rest := entry.ProtoReflect().GetUnknown(); len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			break
		}
		if number == wide && kind == protowire.VarintType {
			if value, m := protowire.ConsumeVarint(rest[n:]); m > 0 {
				pages = value
			}
		}
		m := protowire.ConsumeFieldValue(number, kind, rest[n:])
		if m < 0 {
			break
		}
		rest = rest[n+m:]
	}
	return pages
}

// write is the change that puts data at an address. All of it must be in one page.
func (m *memory) write(address uint64, data []byte) (Edit, error) {
	if address%pageSize+uint64(len(data)) > pageSize {
		return Edit{}, fmt.Errorf("address %#x: %d bytes are in more than one page", address, len(data))
	}
	for _, r := range m.runs {
		if address < r.from || address >= r.to {
			continue
		}
		if !r.parent {
			return Edit{Path: m.pages, Data: data, Offset: r.offset + int64(address-r.from)}, nil
		}
		if m.before == nil {
			return Edit{}, fmt.Errorf("address %#x: the images of an earlier round are not there", address)
		}
		return m.before.write(address, data)
	}
	return Edit{}, fmt.Errorf("address %#x is in none of the images", address)
}
