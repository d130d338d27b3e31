package translate

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"
)

// image is a file of CRIU's: two magic numbers, and entries, each behind its size. What of an entry this program does not know
// stays in it.
type image struct {
	path    string
	magic   []byte
	entries [][]byte
}

const magicSize, sizeSize = 8, 4

func readImage(path string) (*image, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	broken := fmt.Errorf("image %s is not whole", path)
	if len(data) < magicSize {
		return nil, broken
	}
	i := &image{path: path, magic: data[:magicSize]}
	for rest := data[magicSize:]; len(rest) > 0; {
		if len(rest) < sizeSize {
			return nil, broken
		}
		size := int64(binary.LittleEndian.Uint32(rest))
		if size > int64(len(rest)-sizeSize) {
			return nil, broken
		}
		i.entries = append(i.entries, rest[sizeSize:sizeSize+size])
		rest = rest[sizeSize+size:]
	}
	return i, nil
}

// decode reads entry n.
func (i *image) decode(n int, into proto.Message) error {
	if n >= len(i.entries) {
		return fmt.Errorf("image %s has %d entries", i.path, len(i.entries))
	}
	if err := proto.Unmarshal(i.entries[n], into); err != nil {
		return fmt.Errorf("image %s: %w", i.path, err)
	}
	return nil
}

// with is the image with another first entry, as a change of its file.
func (i *image) with(entry proto.Message) (Edit, error) {
	first, err := proto.Marshal(entry)
	if err != nil {
		return Edit{}, fmt.Errorf("image %s: %w", i.path, err)
	}
	data := append([]byte(nil), i.magic...)
	for n, e := range i.entries {
		if n == 0 {
			e = first
		}
		data = append(binary.LittleEndian.AppendUint32(data, uint32(len(e))), e...)
	}
	return Edit{Path: i.path, Whole: data}, nil
}

// each calls do with every image of a kind, "core" for example.
func each(images, kind string, do func(*image) error) error {
	paths, err := filepath.Glob(filepath.Join(images, kind+"-*.img"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		i, err := readImage(path)
		if err != nil {
			return err
		}
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}
