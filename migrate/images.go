package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/transfer"

	"google.golang.org/protobuf/proto"
)

// sumsMark has the checksums of the images that were received.
const sumsMark = "sums"

func sumsOf(sums map[string]transfer.Sums) map[string]*drydockv1.ImageSums {
	result := make(map[string]*drydockv1.ImageSums, len(sums))
	for name, s := range sums {
		result[name] = &drydockv1.ImageSums{Crc32C: s}
	}
	return result
}

// keepSums keeps what the source says of the images, for every restore from them, also by a later agent.
func (e *Engine) keepSums(req *drydockv1.ReceiveRestoreRequest) error {
	data, err := proto.Marshal(&drydockv1.ReceiveRestoreRequest{Sums: req.Sums})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(e.dir(req.Migration), sumsMark), data, 0o600)
}

// verifyImages compares the images as they lie here now with what was sent. It comes right before CRIU begins to read them.
func (e *Engine) verifyImages(ctx context.Context, migration string) error {
	data, err := os.ReadFile(filepath.Join(e.dir(migration), sumsMark))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // they came to an agent that was a version older
	}
	kept := new(drydockv1.ReceiveRestoreRequest)
	if err == nil {
		err = proto.Unmarshal(data, kept)
	}
	if err != nil {
		return fmt.Errorf("checksums of migration %s: %w", migration, err)
	}
	sums := make(map[string]transfer.Sums, len(kept.Sums))
	for name, s := range kept.Sums {
		sums[name] = s.Crc32C
	}
	if err := e.withoutTranslated(migration, sums); err != nil {
		return err
	}
	return transfer.VerifyImages(ctx, filepath.Join(e.dir(migration), "images"), sums)
}
