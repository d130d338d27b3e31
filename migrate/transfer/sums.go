package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Sums are the checksums of an image, one for every MiB and one for what is left: CRC-32C, for which processors have an
// instruction. They find memory that went bad and files that were cut; against forgers there is TLS.
type Sums []uint32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged: an image is not what was sent.
var ErrDamaged = errors.New("the image is damaged")

// ledger takes down the sums of parts, which several connections send at once.
type ledger struct {
	mu   sync.Mutex
	sums map[string]Sums
}

func (l *ledger) note(p part, sum uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Size == 0 {
		l.sums[p.Name] = Sums{}
		return
	}
	n := int(p.Offset / partSize)
	for len(l.sums[p.Name]) <= n {
		l.sums[p.Name] = append(l.sums[p.Name], 0)
	}
	l.sums[p.Name][n] = sum
}

// VerifyImages reads the images that lie below dir, under their own names or as they arrived, and compares them with the sums
// of what was sent.
func VerifyImages(ctx context.Context, dir string, sums map[string]Sums) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for name, want := range sums {
		path := filepath.Join(dir, stored(name))
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			path = filepath.Join(dir, name)
		}
		file, err := os.Open(path)
		if err != nil {
			return errors.Join(fmt.Errorf("verify image %s: %w", name, err), group.Wait())
		}
		defer file.Close()
		if err := sameSize(file, want); err != nil {
			return errors.Join(fmt.Errorf("verify image %s: %w", name, err), group.Wait())
		}
		for n := 0; n < len(want); n += partsAtOnce {
			group.Go(func() error {
				if err := verify(ctx, file, n, want[n:min(n+partsAtOnce, len(want))]); err != nil {
					return fmt.Errorf("verify image %s: %w", name, err)
				}
				return nil
			})
		}
	}
	return group.Wait()
}

// partsAtOnce is how many parts one processor takes at a time.
const partsAtOnce = 16

func sameSize(file *os.File, want Sums) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if n := (info.Size() + partSize - 1) / partSize; !info.Mode().IsRegular() || n != int64(len(want)) {
		return fmt.Errorf("%w: it has %d bytes, where %d MiB were sent", ErrDamaged, info.Size(), len(want))
	}
	return nil
}

func verify(ctx context.Context, file *os.File, first int, want Sums) error {
	buf := make([]byte, 128<<10) // stays in the processor's cache between the copy and the sum
	for i, sum := range want {
		if err := ctx.Err(); err != nil {
			return err
		}
		start := int64(first+i) * partSize
		got := crc32.New(castagnoli)
		n, err := io.CopyBuffer(struct{ io.Writer }{got}, io.NewSectionReader(file, start, partSize), buf)
		if err != nil {
			return err
		}
		if got.Sum32() != sum {
			return fmt.Errorf("%w: bytes %d to %d are not what was sent", ErrDamaged, start, start+n)
		}
	}
	return nil
}
