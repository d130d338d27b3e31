package migrate

import (
	"context"

	"drydock/migrate/transfer"
)

// sending is the images of a pod on their way, from the first of them to the last.
type sending struct {
	*transfer.ImageSender
	written chan struct{}
	ended   chan struct{}
	cancel  context.CancelFunc
	// These are for after ended.
	sizes map[string]int64
	err   error
}

// beginSending sends what lies below images, and what comes to lie there, until finish.
func (m *move) beginSending(ctx context.Context, images string) *sending {
	s := &sending{ImageSender: transfer.NewImageSender(images, m.images), written: make(chan struct{}), ended: make(chan struct{})}
	ctx, s.cancel = context.WithCancel(ctx)
	go func() {
		defer close(s.ended)
		s.sizes, s.err = s.Send(ctx, s.written)
	}()
	return s
}

// flush sends all of a directory whose files are complete.
func (s *sending) flush(ctx context.Context, dir string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.Flush(ctx, dir)
	select {
	case <-s.ended:
		return s.err // which is why nothing is sent any more
	default:
		return err
	}
}

// wait returns when the other side has everything, or ctx has ended and nothing is sent any more.
func (s *sending) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.cancel)
	defer stop()
	<-s.ended
	return s.err
}

// stop ends it wherever it is.
func (s *sending) stop() {
	if s == nil {
		return
	}
	s.cancel()
	<-s.ended
}
