package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// Txn collects what is to be written at once, if nothing that it depends on has changed.
type Txn struct {
	store *Store
	when  []clientv3.Cmp
	then  []clientv3.Op
	err   error
}

// Txn begins a transaction.
func (s *Store) Txn() *Txn { return &Txn{store: s} }

// Unchanged holds while the value at key has the revision; 0: while there is none.
func Unchanged(key string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", revision)
}

// If adds conditions; all must hold.
func (t *Txn) If(conditions ...clientv3.Cmp) *Txn {
	t.when = append(t.when, conditions...)
	return t
}

// Put writes a value.
func (t *Txn) Put(key string, value proto.Message) *Txn {
	data, err := proto.Marshal(value)
	if err != nil {
		t.err = errors.Join(t.err, fmt.Errorf("encode %s: %w", key, err))
	}
	return t.PutBytes(key, data)
}

// PutBytes writes what is no message.
func (t *Txn) PutBytes(key string, value []byte) *Txn {
	t.then = append(t.then, clientv3.OpPut(key, string(value)))
	return t
}

// DeleteRange removes all values from the key from on, up to the key end and without it.
func (t *Txn) DeleteRange(from, end string) *Txn {
	t.then = append(t.then, clientv3.OpDelete(from, clientv3.WithRange(end)))
	return t
}

// Delete removes a value; that there is none is no error.
func (t *Txn) Delete(key string) *Txn {
	t.then = append(t.then, clientv3.OpDelete(key))
	return t
}

// Commit writes everything and returns the new revision, or writes nothing and returns ErrConflict, or ErrDeposed where ctx
// belongs to a term that is over (WithGuard). After any other error it is not known which.
func (t *Txn) Commit(ctx context.Context) (int64, error) {
	if t.err != nil {
		return 0, t.err
	}
	txn := t.store.client.Txn(ctx)
	term := guardOf(ctx)
	if term == nil {
		txn = txn.If(t.when...).Then(t.then...)
	} else {
		txn = txn.If(slices.Concat(t.when, []clientv3.Cmp{term.Holds()})...).Then(t.then...).Else(term.look())
	}
	response, err := txn.Commit()
	switch {
	case err != nil:
		return 0, fmt.Errorf("write to the store: %w", err)
	case response.Succeeded:
	case term != nil && term.over((*clientv3.GetResponse)(response.Responses[0].GetResponseRange())):
		return 0, ErrDeposed
	default:
		return 0, ErrConflict
	}
	return response.Header.Revision, nil
}
