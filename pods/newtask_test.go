package pods

import (
	"context"
	"errors"
	"testing"
)

func TestRuncIsAskedAgainOnlyWhereItsInitWasNotReady(t *testing.T) {
	busy := errors.New("failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: " +
		"waiting for init preliminary setup: read init-p: connection reset by peer")
	other := errors.New("OCI runtime create failed: runc create failed: exec: \"/bin/none\": stat /bin/none: no such file or directory")
	for name, c := range map[string]struct {
		answers []error
		want    error
		asked   int
	}{
		"at once":        {answers: []error{nil}, asked: 1},
		"after two":      {answers: []error{busy, busy, nil}, asked: 3},
		"another fault":  {answers: []error{other, nil}, want: other, asked: 1},
		"busy, then not": {answers: []error{busy, other, nil}, want: other, asked: 2},
		"always":         {answers: []error{busy, busy, busy, busy, busy, nil}, want: busy, asked: sealTries},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			_, err := sealing(context.Background(), func() (int, error) {
				asked++
				return asked, c.answers[asked-1]
			})
			if !errors.Is(err, c.want) || asked != c.asked {
				t.Errorf("asked %d times, and answered %v", asked, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	asked := 0
	_, err := sealing(ctx, func() (int, error) { asked++; cancel(); return 0, busy })
	if asked != 1 || !errors.Is(err, busy) {
		t.Errorf("asked %d times after the caller went away: %v", asked, err)
	}
}
