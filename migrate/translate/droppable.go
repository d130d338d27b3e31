package translate

import (
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/vma"
)

const (
	mapDroppable = 0x08 // MAP_DROPPABLE, a type of mapping as MAP_PRIVATE is one
	mapType      = 0x0f
	// likeDroppable are the madvise flags, as CRIU numbers them, of what the kernel does with every such mapping: a child gets it
	// empty, and no core dump has it.
	likeDroppable = 1<<unix.MADV_WIPEONFORK | 1<<unix.MADV_DONTDUMP
)

// droppable is about mappings that the kernel may empty when memory is short. Kernel 6.11 brought them with getrandom in the vDSO,
// whose state glibc keeps in one (Linux 9651fcedf7b9, glibc 461cab1de747). An earlier kernel refuses them, and gets private ones
// that a child finds empty: what is written there then just stays. The vDSO that the pod was started with finds no data of a
// kernel's at the destination, and asks the kernel each time.
func droppable() Rule {
	return Rule{
		Name: "droppable", Since: "6.11",
		Does: "mappings that the kernel may empty, as glibc's for random numbers, become private ones",
		find: func(images string) ([]Edit, error) {
			var edits []Edit
			err := each(images, "mm", func(i *image) error {
				entry := new(mm.MmEntry)
				if err := i.decode(0, entry); err != nil {
					return err
				}
				if !makePrivate(entry.Vmas) {
					return nil
				}
				edit, err := i.with(entry)
				edits = append(edits, edit)
				return err
			})
			return edits, err
		},
	}
}

// makePrivate tells whether any of the mappings was droppable.
func makePrivate(vmas []*vma.VmaEntry) (any bool) {
	for _, v := range vmas {
		if v.GetFlags()&mapType != mapDroppable {
			continue
		}
		v.Flags = proto.Uint32(v.GetFlags()&^mapType | unix.MAP_PRIVATE)
		v.Madv = proto.Uint64(v.GetMadv() | likeDroppable)
		any = true
	}
	return any
}
