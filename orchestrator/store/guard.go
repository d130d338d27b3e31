package store

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrDeposed: the term under which something was to be written is over. Nothing was written.
var ErrDeposed = errors.New("another controller has become the leader")

type guardKey struct{}

// WithGuard makes every transaction that is committed in ctx depend on the term: once it is over, also if its leader was paused
// and has not noticed, nothing is written.
func WithGuard(ctx context.Context, term *Term) context.Context {
	return context.WithValue(ctx, guardKey{}, term)
}

// WithoutGuard is ctx for what any controller may write.
func WithoutGuard(ctx context.Context) context.Context {
	return context.WithValue(ctx, guardKey{}, (*Term)(nil))
}

func guardOf(ctx context.Context) *Term {
	term, _ := ctx.Value(guardKey{}).(*Term)
	return term
}

// look is the operation that tells, where a transaction was not done, whether the term was the reason.
func (t *Term) look() clientv3.Op { return clientv3.OpGet(t.Key(), clientv3.WithKeysOnly()) }

// over reads look's answer.
func (t *Term) over(answer *clientv3.GetResponse) bool {
	return len(answer.Kvs) == 0 || answer.Kvs[0].CreateRevision != t.Revision()
}
