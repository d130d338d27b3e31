package network

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// Counts says what became of the frames of one direction.
type Counts struct {
	Frames        int64 `json:"frames"`         // delivered, kept ones and those that followed
	Bytes         int64 `json:"bytes"`          // of those
	DroppedFrames int64 `json:"dropped_frames"` // not delivered: no room, or thrown away with the hold
	DroppedBytes  int64 `json:"dropped_bytes"`  // of those, where known
}

type flowMode int

const (
	discarding flowMode = iota // frames are thrown away: somebody else serves the pod
	keeping                    // frames wait
	passing                    // frames go on at once
	ended                      // frames are thrown away, and counted no more
)

// flow is one direction of a hold. Frames keep the order in which they came. When limit is reached the newest frames are
// dropped: what a TCP receiver gets is then a stretch without gaps, and the sender repeats only what follows it.
type flow struct {
	limit int64 // bytes

	mu     sync.Mutex
	mode   flowMode
	to     *os.File
	kept   [][]byte
	size   int64 // bytes kept
	counts Counts
}

// accept takes one frame with its offload header. The slice is the caller's again when it returns.
func (f *flow) accept(frame []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.mode {
	case keeping:
		length := int64(len(frame) - vnetHeader)
		if f.size+length > f.limit {
			f.drop(frame)
			return
		}
		f.kept = append(f.kept, append([]byte(nil), frame...))
		f.size += length
	case passing:
		f.deliver(frame)
	}
}

// keep makes the flow keep what comes, if it has thrown it away so far.
func (f *flow) keep() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode == discarding {
		f.mode = keeping
	}
}

// precede puts frames before those that are kept, also beyond the limit: they came first, and a Catch bounds them. What is
// shorter than its headers is no frame.
func (f *flow) precede(frames [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode != keeping {
		return
	}
	var first [][]byte
	for _, frame := range frames {
		if len(frame) > vnetHeader+etherHeader {
			first = append(first, frame)
			f.size += int64(len(frame) - vnetHeader)
		}
	}
	f.kept = append(first, f.kept...)
}

// pass delivers what was kept and lets everything go on from then on. New frames wait until the kept ones are out.
func (f *flow) pass() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode == ended {
		return
	}
	for _, frame := range f.kept {
		f.deliver(frame)
	}
	f.kept, f.size = nil, 0
	f.mode = passing
}

// end throws away what is kept.
func (f *flow) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, frame := range f.kept {
		f.drop(frame)
	}
	f.kept, f.size = nil, 0
	f.mode = ended
}

// miss counts frames that never reached the flow.
func (f *flow) miss(frames int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts.DroppedFrames += frames
}

func (f *flow) isKeeping() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mode == keeping
}

func (f *flow) snapshot() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts
}

func (f *flow) deliver(frame []byte) {
	if err := sendFrame(f.to, frame); err != nil {
		f.drop(frame)
		return
	}
	f.counts.Frames++
	f.counts.Bytes += int64(len(frame) - vnetHeader)
}

func (f *flow) drop(frame []byte) {
	f.counts.DroppedFrames++
	f.counts.DroppedBytes += int64(len(frame) - vnetHeader)
}

// awaitQuiet waits until nothing passes through the flows for as long as pause, but no longer than limit.
func awaitQuiet(ctx context.Context, pause, limit time.Duration, flows ...*flow) {
	deadline := time.Now().Add(limit)
	for before := int64(-1); time.Now().Before(deadline); {
		var now int64
		for _, f := range flows {
			now += f.snapshot().Frames
		}
		if now == before {
			return
		}
		before = now
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// String is for errors and logs.
func (c Counts) String() string {
	return fmt.Sprintf("%d frames, %d bytes, %d dropped", c.Frames, c.Bytes, c.DroppedFrames)
}
