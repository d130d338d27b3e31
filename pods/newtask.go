package pods

import (
	"context"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
)

// unsealed is what runc says where its init ended before it was told what to run.
const unsealed = "waiting for init preliminary setup"

// sealTries is how often runc is asked for one container; docs/criu.md tells why once is not always enough.
const sealTries = 5

// newTask makes the task of a container that is to be started; nothing of it runs yet.
func newTask(ctx context.Context, c containerd.Container, log string) (containerd.Task, error) {
	return sealing(ctx, func() (containerd.Task, error) { return c.NewTask(ctx, cio.LogFile(log)) })
}

// sealing asks runc for a container, and again where the kernel was too busy to seal runc's copy of itself: nothing of the container
// was begun then.
func sealing[T any](ctx context.Context, create func() (T, error)) (made T, err error) {
	for range sealTries {
		if made, err = create(); err == nil || !strings.Contains(err.Error(), unsealed) {
			return made, err
		}
		select {
		case <-ctx.Done():
			return made, err
		case <-time.After(10 * time.Millisecond):
		}
	}
	return made, err
}
