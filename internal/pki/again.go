package pki

import (
	"context"
	"errors"
	"net"

	"connectrpc.com/connect"
)

// AskAgain makes clients ask once more, over a new connection, where a question without side effects was lost with its
// connection. A connection that the other side has given up while a link was down looks sound until it is used.
func AskAgain() connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
			response, err := next(ctx, request)
			if err == nil || ctx.Err() != nil || request.Spec().IdempotencyLevel != connect.IdempotencyNoSideEffects || !lost(err) {
				return response, err
			}
			return next(ctx, request)
		}
	})
}

// lost says whether a call ended with its connection, and not with an answer or for want of a connection.
func lost(err error) bool {
	var network *net.OpError
	return !connect.IsWireError(err) && errors.As(err, &network) && network.Op != "dial"
}
