package version

import (
	"errors"
	"strings"
	"testing"
)

func TestPeersOneApartWorkTogetherAndOthersAreToldWhatToDo(t *testing.T) {
	for _, c := range []struct {
		name         string
		ours, theirs uint32
		remedy       string // empty where they work together
	}{
		{"the same", 5, 5, ""},
		{"the peer is one older", 5, 4, ""},
		{"the peer is one newer", 5, 6, ""},
		{"the peer is two older", 5, 3, "upgrade host h1, one version at a time"},
		{"the peer is two newer", 5, 7, "upgrade this program, or install an older one on host h1"},
		{"the first version takes a peer that says none", 1, 0, ""},
		{"a later one does not", 2, 0, "upgrade host h1"},
		{"far newer", 1, ^uint32(0), "upgrade this program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Check("host h1", c.ours, c.theirs)
			if c.remedy == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			var mismatch *Mismatch
			if !errors.As(err, &mismatch) || !strings.Contains(mismatch.Remedy(), c.remedy) {
				t.Errorf("got %v, want the remedy %q", err, c.remedy)
			}
		})
	}
}
