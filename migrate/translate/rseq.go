package translate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
)

// firstRseqSize is the length of a thread's area for restartable sequences with which they began.
const firstRseqSize = 32

// rseq is about threads' areas for restartable sequences. From kernel 6.3 on the kernel says how much of one it fills in, and glibc
// registers as much; an earlier kernel takes 32 bytes and nothing else (Linux ee3e3ac05c26). Registering fewer for the threads that
// there are would not do: glibc registers each new thread with the length that it found at its start, and ends the program where
// that is refused. So a pod with longer areas goes on as one whose registration was refused at its start: no thread has an area, the
// areas say so, new threads do not ask for one, and what asks for the processor's number asks the kernel.
func rseq() Rule {
	return Rule{
		Name: "rseq", Since: "6.3", Memory: true,
		Does: "threads whose area for restartable sequences is longer than the kernel takes go on without one",
		find: findAreas,
	}
}

// What a thread finds in an area that is not registered: the first is 0, the second RSEQ_CPU_ID_REGISTRATION_FAILED, the third,
// the sequence that it is in, none.
func unregistered() []byte {
	data := make([]byte, 16)
	binary.LittleEndian.PutUint32(data[4:], ^uint32(1))
	return data
}

func findAreas(images string) ([]Edit, error) {
	longer, err := hasLonger(images)
	if err != nil || !longer {
		return nil, err
	}
	tree, err := readImage(filepath.Join(images, "pstree.img"))
	if err != nil {
		return nil, err
	}
	var edits []Edit
	for n := range tree.entries {
		process := new(pstree.PstreeEntry)
		if err := tree.decode(n, process); err != nil {
			return nil, err
		}
		// The areas are written before the registrations go from the images: a change that is cut off between is found again.
		var areas, registrations []Edit
		open := sync.OnceValues(func() (*memory, error) { return openMemory(images, process.GetPid()) })
		for _, thread := range process.Threads {
			area, registration, err := unregister(images, thread, open)
			if err != nil {
				return nil, err
			}
			areas, registrations = append(areas, area...), append(registrations, registration...)
		}
		edits = append(append(edits, areas...), registrations...)
	}
	return edits, nil
}

func hasLonger(images string) (longer bool, err error) {
	err = each(images, "core", func(i *image) error {
		entry := new(core.CoreEntry)
		if err := i.decode(0, entry); err != nil {
			return err
		}
		longer = longer || entry.GetThreadCore().GetRseqEntry().GetRseqAbiSize() > firstRseqSize
		return nil
	})
	return longer, err
}

// unregister takes a thread's registration away.
func unregister(images string, thread uint32, open func() (*memory, error)) (area, registration []Edit, err error) {
	i, err := readImage(filepath.Join(images, fmt.Sprintf("core-%d.img", thread)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	entry := new(core.CoreEntry)
	if err := i.decode(0, entry); err != nil {
		return nil, nil, err
	}
	registered := entry.GetThreadCore().GetRseqEntry()
	if registered == nil || registered.GetRseqAbiSize() <= firstRseqSize {
		return nil, nil, nil
	}
	if registered.GetRseqCsPointer() != 0 {
		return nil, nil, fmt.Errorf("thread %d is in a restartable sequence that is not restarted: move the pod again", thread)
	}
	pages, err := open()
	if err != nil {
		return nil, nil, err
	}
	edit, err := pages.write(registered.GetRseqAbiPointer(), unregistered())
	if err != nil {
		return nil, nil, fmt.Errorf("area of thread %d: %w", thread, err)
	}
	entry.ThreadCore.RseqEntry = nil
	whole, err := i.with(entry)
	return []Edit{edit}, []Edit{whole}, err
}
