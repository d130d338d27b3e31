package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	v1 "drydock/api/drydock/v1"
)

// Archives travel in messages of this size.
const importChunk = 1 << 20

func newImageCommand(a *app) *cobra.Command {
	return newGroup("image", "Container images in the pool", newImageImport(a), newImagePull(a), newImageList(a))
}

func newImageImport(a *app) *cobra.Command {
	header := &v1.ImportImageHeader{}
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take the images out of an OCI or docker archive",
		Args:  exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			images, err := a.importArchive(cmd.Context(), c, header, args[0])
			if err != nil {
				return err
			}
			return a.printImages(images)
		},
	}
	cmd.Flags().StringVar(&header.Reference, "as", "", "reference to give the image, instead of the archive's own")
	cmd.Flags().StringVar(&header.Host, "host", "", "host that takes it first; the others fetch it from there")
	a.complete(cmd, "host", hostNames)
	return cmd
}

// importArchive sends the file, with its progress on stderr.
func (a *app) importArchive(ctx context.Context, c *client, header *v1.ImportImageHeader, path string) ([]*v1.Image, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, &failure{status: statusMisuse, message: fmt.Sprintf("image archive: %v", err)}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, &failure{status: statusMisuse, message: fmt.Sprintf("image archive %s: no regular file", path)}
	}
	show := a.newProgress()
	defer show.close()
	stream := c.ImportImage(ctx)
	if err := stream.Send(&v1.ImportImageRequest{Header: header}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	buf := make([]byte, importChunk)
	for sent := int64(0); ; {
		n, err := file.Read(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("image archive: %w", err)
		}
		// At io.EOF the controller has answered already: CloseAndReceive says what.
		if err := stream.Send(&v1.ImportImageRequest{Data: buf[:n]}); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		sent += int64(n)
		show.update(path, &v1.MigrationProgress{Step: "import", Bytes: sent, BytesTotal: info.Size()})
	}
	res, err := stream.CloseAndReceive()
	if err != nil {
		return nil, err
	}
	return res.Msg.Images, nil
}

func newImagePull(a *app) *cobra.Command {
	req := &v1.PullImageRequest{}
	cmd := &cobra.Command{
		Use:   "pull REF",
		Short: "Get an image from its registry",
		Args:  exactly("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			req.Reference = args[0]
			res, err := wait(cmd.Context(), c.PullImage, req)
			if err != nil {
				return err
			}
			return a.printImages([]*v1.Image{res.Image})
		},
	}
	cmd.Flags().StringVar(&req.Host, "host", "", "host that pulls it")
	a.complete(cmd, "host", hostNames)
	return cmd
}

func newImageList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the images and the hosts that hold them",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := ask(cmd.Context(), c, c.ListImages, &v1.ListImagesRequest{})
			if err != nil {
				return err
			}
			return a.printImages(res.Images)
		},
	}
}

func (a *app) printImages(images []*v1.Image) error {
	return a.print(messages(images), func(t *table) {
		t.row("REFERENCE", "DIGEST", "SIZE", "HOSTS")
		for _, i := range images {
			t.row(i.Reference, shortDigest(i.Digest), size(i.SizeBytes), strings.Join(i.Hosts, ","))
		}
	})
}

// shortDigest keeps what tells images apart in practice; -o json has it whole.
func shortDigest(digest string) string {
	const keep = len("sha256:") + 12
	return digest[:min(keep, len(digest))]
}
