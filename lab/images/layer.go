package images

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// epoch is the time of every file in every layer, so that equal content gives equal digests.
func epoch() time.Time { return time.Unix(1_700_000_000, 0).UTC() }

// file is one entry of a small layer.
type file struct {
	path     string // absolute, in the image
	mode     fs.FileMode
	uid, gid int
	content  []byte
	write    func(io.Writer) error // instead of content, for size bytes
	size     int64
}

// layerOf makes a layer of the given files, in their order. Directories are named before what is in them.
func layerOf(files []file) ([]byte, error) {
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.path[1:], Mode: int64(f.mode.Perm()), Uid: f.uid, Gid: f.gid,
			Size: int64(len(f.content)), ModTime: epoch(), Format: tar.FormatPAX,
		}
		if f.mode.IsDir() {
			header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		}
		if f.write != nil {
			header.Size = f.size
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("images: layer entry %s: %w", f.path, err)
		}
		if _, err := archive.Write(f.content); err != nil {
			return nil, fmt.Errorf("images: layer entry %s: %w", f.path, err)
		}
		if f.write == nil {
			continue
		}
		if err := f.write(archive); err != nil {
			return nil, fmt.Errorf("images: layer entry %s: %w", f.path, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("images: close the layer: %w", err)
	}
	return out.Bytes(), nil
}

// writeTreeLayer writes the tree as a layer and returns its size in bytes. The same tree always gives the same layer.
func writeTreeLayer(ctx context.Context, tree, path string) (int64, error) {
	out, err := os.Create(path)
	if err != nil {
		return 0, fmt.Errorf("images: make the layer of %s: %w", tree, err)
	}
	defer out.Close()
	w := treeWriter{root: tree, tar: tar.NewWriter(out), linked: map[uint64]string{}}
	err = filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return w.add(path, entry)
	})
	if err == nil {
		err = w.tar.Close()
	}
	if err != nil {
		return 0, fmt.Errorf("images: make the layer of %s: %w", tree, err)
	}
	info, err := out.Stat()
	if err != nil {
		return 0, fmt.Errorf("images: %w", err)
	}
	return info.Size(), nil
}

// treeWriter walks a tree in name order into a tar; linked remembers the first name of a file with several.
type treeWriter struct {
	root   string
	tar    *tar.Writer
	linked map[uint64]string
}

func (w *treeWriter) add(path string, entry fs.DirEntry) error {
	name, err := filepath.Rel(w.root, path)
	if err != nil || name == "." {
		return err
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name, header.Format = name, tar.FormatPAX
	header.ModTime, header.AccessTime, header.ChangeTime = epoch(), time.Time{}, time.Time{}
	header.Uname, header.Gname = "", ""
	if info.IsDir() {
		header.Name += "/"
	}
	if first, seen := w.linked[stat.Ino]; seen && info.Mode().IsRegular() {
		header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
	} else if info.Mode().IsRegular() && stat.Nlink > 1 {
		w.linked[stat.Ino] = name
	}
	if err := w.tar.WriteHeader(header); err != nil {
		return err
	}
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	return w.content(path)
}

func (w *treeWriter) content(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(w.tar, in)
	return err
}
