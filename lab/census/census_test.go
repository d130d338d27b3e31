package census

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatComesAnewWithEveryMoveHasOneName(t *testing.T) {
	for _, names := range [][2]string{
		{"/run/drydock/migrations/mmwpvqsv1-trwznwmp/images", "/run/drydock/migrations/mmwpwk53-c5654xzq/images"},
		{"/snapshots/7/fs", "/snapshots/113/fs"},
		{"/blobs/sha256/e5451e5de424aaaaffff", "/blobs/sha256/0f27b06388e2aaaaffff"},
	} {
		if a, b := generic(names[0]), generic(names[1]); a != b {
			t.Errorf("%s and %s became %s and %s", names[0], names[1], a, b)
		}
	}
}

func TestALeakIsReportedByName(t *testing.T) {
	before, after := make(Census), make(Census)
	before.add("h1", "process", "redis-server")
	before.add("h2", "mount", "nsfs at /run/drydock/netns/redis")
	after.add("h1", "process", "redis-server")
	after.add("h2", "file", "/run/drydock/migrations/mmwpvqsv1-trwznwmp")
	after.add("h2", "file", "/run/drydock/migrations/mmwpwk53-c5654xzq")
	want := []string{"h2 file /run/drydock/migrations/ID: 0 before, 2 after"}
	if diff := cmp.Diff(want, before.More(after)); diff != "" {
		t.Error(diff)
	}
	if more := before.More(before); more != nil {
		t.Errorf("the same census has more of %v", more)
	}
}
