package owner

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Etcd is the Store in an etcd cluster, one key per pod below a prefix. Reads are linearizable.
type Etcd struct {
	kv     clientv3.KV
	prefix string
	// leader is empty, or the key that must still have the creation revision when something is written.
	leader   string
	revision int64
}

// NewEtcd keeps records below prefix, which should end in a slash. The time that a call may take is the context's: give
// every context a deadline, or a store that is away is waited for without end.
func NewEtcd(kv clientv3.KV, prefix string) *Etcd {
	return &Etcd{kv: kv, prefix: prefix}
}

// Guarded is the same store for a leader: it writes only while leaderKey exists and was created at revision (the values of
// an election's Key and Rev), else it returns ErrDeposed. Decisions that a controller carries out for an agent do not need it.
func (e *Etcd) Guarded(leaderKey string, revision int64) *Etcd {
	return &Etcd{kv: e.kv, prefix: e.prefix, leader: leaderKey, revision: revision}
}

// Get returns the record of a pod, ErrNotFound, or ErrUnknown.
func (e *Etcd) Get(ctx context.Context, pod string) (Record, error) {
	res, err := e.kv.Get(ctx, e.prefix+pod)
	if err != nil {
		return Record{}, fmt.Errorf("read owner of pod %s: %w: %w", pod, ErrUnknown, err)
	}
	if len(res.Kvs) == 0 {
		return Record{}, fmt.Errorf("pod %s: %w", pod, ErrNotFound)
	}
	return Decode(res.Kvs[0].Value, res.Kvs[0].ModRevision)
}

// CompareAndSwap writes r if its revision is the current one. Whatever error the client gives leaves the outcome
// unknown.
func (e *Etcd) CompareAndSwap(ctx context.Context, r Record) (int64, error) {
	b, err := r.Encode()
	if err != nil {
		return 0, err
	}
	key := e.prefix + r.Pod
	when := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", r.Revision)}
	otherwise := []clientv3.Op{}
	if e.leader != "" {
		when = append(when, clientv3.Compare(clientv3.CreateRevision(e.leader), "=", e.revision))
		otherwise = append(otherwise, clientv3.OpGet(e.leader))
	}
	res, err := e.kv.Txn(ctx).If(when...).Then(clientv3.OpPut(key, string(b))).Else(otherwise...).Commit()
	if err != nil {
		return 0, fmt.Errorf("write owner of pod %s: %w: %w", r.Pod, ErrUnknown, err)
	}
	if res.Succeeded {
		return res.Header.Revision, nil
	}
	if e.leader != "" {
		kvs := res.Responses[0].GetResponseRange().Kvs
		if len(kvs) == 0 || kvs[0].CreateRevision != e.revision {
			return 0, fmt.Errorf("write owner of pod %s: %w", r.Pod, ErrDeposed)
		}
	}
	return 0, fmt.Errorf("write owner of pod %s: %w", r.Pod, ErrConflict)
}
