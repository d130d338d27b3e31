package agent

import (
	"context"
	"errors"
	"fmt"
	"io"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/pods"

	"connectrpc.com/connect"
)

// fetch gets an image from whichever host has it.
func (s *agentServer) fetch(ctx context.Context, reference, digest string, from []*drydockv1.Peer) error {
	if s.pods.HasImage(ctx, digest) {
		return nil
	}
	err := fmt.Errorf("image %s is on no host that can be reached: import it again", reference)
	for _, peer := range from {
		if peer.Name == s.here.Host {
			continue
		}
		if _, err = s.pods.Fetch(ctx, reference, digest, s.peers.Images(peer)); err == nil {
			return nil
		}
	}
	return err
}

func (s *agentServer) ImportArchive(ctx context.Context, stream *connect.ClientStream[drydockv1.ImportImageRequest]) (*connect.Response[drydockv1.ImportImageResponse], error) {
	if !stream.Receive() {
		return nil, failed(errors.Join(stream.Err(), errors.New("no archive was sent")))
	}
	reference := stream.Msg().GetHeader().GetReference()
	imported, err := s.pods.Import(ctx, &archiveReader{stream: stream, rest: stream.Msg().Data}, reference)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	response := &drydockv1.ImportImageResponse{}
	for _, img := range imported {
		response.Images = append(response.Images, s.image(img))
	}
	return connect.NewResponse(response), nil
}

func (s *agentServer) image(img pods.Image) *drydockv1.Image {
	return &drydockv1.Image{Reference: img.Reference, Digest: img.Digest, SizeBytes: img.Size, Hosts: []string{s.here.Host}}
}

type archiveReader struct {
	stream *connect.ClientStream[drydockv1.ImportImageRequest]
	rest   []byte
}

func (a *archiveReader) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if !a.stream.Receive() {
			if err := a.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		a.rest = a.stream.Msg().Data
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (s *agentServer) Pull(ctx context.Context, req *connect.Request[drydockv1.PullImageRequest]) (*connect.Response[drydockv1.PullImageResponse], error) {
	img, err := s.pods.Pull(ctx, req.Msg.Reference)
	return answer(&drydockv1.PullImageResponse{Image: s.image(img)}, err)
}

func (s *agentServer) FetchImage(ctx context.Context, req *connect.Request[drydockv1.FetchImageRequest]) (*connect.Response[drydockv1.FetchImageResponse], error) {
	err := s.fetch(ctx, req.Msg.Reference, req.Msg.Digest, req.Msg.From)
	return answer(&drydockv1.FetchImageResponse{Image: &drydockv1.Image{Reference: req.Msg.Reference, Digest: req.Msg.Digest}}, err)
}

func (s *agentServer) ListAgentImages(ctx context.Context, _ *connect.Request[drydockv1.ListAgentImagesRequest]) (*connect.Response[drydockv1.ListAgentImagesResponse], error) {
	list, err := s.images(ctx)
	return answer(&drydockv1.ListAgentImagesResponse{Images: list}, err)
}

func (a *agent) images(ctx context.Context) ([]*drydockv1.Image, error) {
	all, err := a.pods.Images(ctx)
	var list []*drydockv1.Image
	for _, img := range all {
		list = append(list, (&agentServer{a}).image(img))
	}
	return list, err
}

const blobPart = 256 << 10

func (s *agentServer) ReadBlob(ctx context.Context, req *connect.Request[drydockv1.ReadBlobRequest], stream *connect.ServerStream[drydockv1.ReadBlobResponse]) error {
	blob, err := s.pods.ReadBlob(ctx, req.Msg.Digest)
	if err != nil {
		return connect.NewError(connect.CodeNotFound, err)
	}
	defer blob.Close()
	buf := make([]byte, blobPart)
	for {
		n, err := blob.Read(buf)
		if n > 0 {
			if err := stream.Send(&drydockv1.ReadBlobResponse{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return failed(err)
		}
	}
}
