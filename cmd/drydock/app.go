package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"drydock/api/drydock/v1/drydockv1connect"
)

// app is one invocation: its streams, its settings once they are read, and the controller that it talks to.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	// patience is how long a command that watches waits for another controller when its own went away; 0: not at all.
	patience time.Duration

	flags    *pflag.FlagSet
	settings settings
	target   *target
	// reason is why a change is asked for.
	reason string
}

// client is a connection to the controller. Nothing is sent before the first call.
type client struct {
	drydockv1connect.ControllerServiceClient
	drydockv1connect.AccessServiceClient
	drydockv1connect.ClusterServiceClient
	drydockv1connect.RolloutServiceClient
	drydockv1connect.UpgradeServiceClient
	drydockv1connect.ShimServiceClient
	timeout time.Duration
}

// connect reads the settings and the context, and returns a client for the controller that they name.
func (a *app) connect() (*client, error) {
	if err := a.load(); err != nil {
		return nil, err
	}
	t, err := findTarget(a.settings)
	if err != nil {
		return nil, err
	}
	a.target = t
	http, base, err := t.client()
	if err != nil {
		return nil, err
	}
	var options []connect.ClientOption
	if a.reason != "" {
		options = append(options, connect.WithInterceptors(giveReason{a.reason}))
	}
	return &client{
		ControllerServiceClient: drydockv1connect.NewControllerServiceClient(http, base, options...),
		AccessServiceClient:     drydockv1connect.NewAccessServiceClient(http, base, options...),
		ClusterServiceClient:    drydockv1connect.NewClusterServiceClient(http, base, options...),
		RolloutServiceClient:    drydockv1connect.NewRolloutServiceClient(http, base, options...),
		UpgradeServiceClient:    drydockv1connect.NewUpgradeServiceClient(http, base, options...),
		ShimServiceClient:       drydockv1connect.NewShimServiceClient(http, base, options...),
		timeout:                 a.settings.Timeout,
	}, nil
}

// method is a call with one request and one answer.
type method[Req, Res any] func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error)

// ask makes a call that is answered at once: the timeout of the settings applies.
func ask[Req, Res any](ctx context.Context, c *client, call method[Req, Res], req *Req) (*Res, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, err := wait(ctx, call, req)
	if err != nil && ranOut(ctx, err, c.timeout) {
		return nil, errNoAnswer(c.timeout)
	}
	return res, err
}

// ranOut tells whether a call failed because its time was over. The controller knows that time, and may notice first.
func ranOut(ctx context.Context, err error, timeout time.Duration) bool {
	deadline, _ := ctx.Deadline()
	return errors.Is(ctx.Err(), context.DeadlineExceeded) ||
		connect.CodeOf(err) == connect.CodeDeadlineExceeded && time.Until(deadline) < timeout/10
}

// wait makes a call that takes as long as what it asks for takes.
func wait[Req, Res any](ctx context.Context, call method[Req, Res], req *Req) (*Res, error) {
	res, err := call(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

// follow makes a call that is answered with a stream, and hands each message to each.
func follow[Req, Res any](ctx context.Context,
	call func(context.Context, *connect.Request[Req]) (*connect.ServerStreamForClient[Res], error),
	req *Req, each func(*Res) error,
) error {
	stream, err := call(ctx, connect.NewRequest(req))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if err := each(stream.Msg()); err != nil {
			return err
		}
	}
	return stream.Err()
}

// terminal returns the file behind a stream where it is a terminal.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}
