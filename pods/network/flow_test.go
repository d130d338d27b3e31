package network

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testFrame(b byte) []byte { return append(make([]byte, vnetHeader), b, b) }

// pipedFlow is a flow whose deliveries can be read from a pipe.
func pipedFlow(t *testing.T, limit int64) (*flow, func() []byte) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return &flow{limit: limit, to: w}, func() []byte {
		w.Close()
		var got []byte
		for buffer := make([]byte, vnetHeader+2); ; {
			if n, err := r.Read(buffer); err != nil || n < len(buffer) {
				return got
			}
			got = append(got, buffer[vnetHeader])
		}
	}
}

func TestAFlowThrowsAwayThenKeepsThenPassesInOrder(t *testing.T) {
	f, delivered := pipedFlow(t, 100)
	f.accept(testFrame('a'))
	f.keep()
	f.accept(testFrame('b'))
	f.accept(testFrame('c'))
	f.pass()
	f.accept(testFrame('d'))
	f.end()
	f.accept(testFrame('e'))
	f.pass()
	if diff := cmp.Diff("bcd", string(delivered())); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Counts{Frames: 3, Bytes: 6}, f.snapshot()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestAFullFlowDropsTheNewestAndCounts(t *testing.T) {
	f, delivered := pipedFlow(t, 5)
	f.keep()
	for _, b := range []byte("abcd") {
		f.accept(testFrame(b))
	}
	f.pass()
	if diff := cmp.Diff("ab", string(delivered())); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Counts{Frames: 2, Bytes: 4, DroppedFrames: 2, DroppedBytes: 4}, f.snapshot()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestAnEndedFlowCountsWhatItThrewAway(t *testing.T) {
	f, _ := pipedFlow(t, 100)
	f.keep()
	f.accept(testFrame('a'))
	f.end()
	f.end()
	if diff := cmp.Diff(Counts{DroppedFrames: 1, DroppedBytes: 2}, f.snapshot()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
