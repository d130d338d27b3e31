package sidecar

import (
	"io/fs"
	"os"
)

// Kept is the directory in the volume of what a shim keeps for clients because the server cannot store it.
const Kept = stateDir

// ShowKept lets every user read what a shim has kept: a transform's program runs as that of its image. What else lies in the volume
// stays as it is.
func ShowKept(volume string) error {
	root, err := os.OpenRoot(volume)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := root.Lstat(Kept); os.IsNotExist(err) {
		return nil
	}
	return fs.WalkDir(root.FS(), Kept, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return root.Chmod(path, 0o755)
		case entry.Type().IsRegular():
			return root.Chmod(path, 0o644)
		}
		return nil
	})
}
