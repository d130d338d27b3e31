// Package store is where controllers keep what must survive them: etcd, inside the controller by default, or a cluster that
// somebody else runs. It promises that what was written is on disk before the write is answered, that reads are
// linearizable, and that at most one controller leads at a time.
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/protobuf/proto"
)

// ErrNotFound: there is no value at the key.
var ErrNotFound = errors.New("not in the store")

// ErrConflict: a value that was to be replaced has changed since it was read. Nothing was written.
var ErrConflict = errors.New("changed in the store since it was read")

// Config says where the store is.
type Config struct {
	// DataDir is where an embedded etcd keeps its data. Ignored where Endpoints are given.
	DataDir string
	// Endpoints are an external cluster's client URLs.
	Endpoints []string
	// CAFile, CertFile and KeyFile are for an external cluster that wants TLS.
	CAFile, CertFile, KeyFile string
	// Membership is set where an embedded store is shared with other controllers.
	Membership *Membership
	Log        *slog.Logger
}

// Store is an open store. It is safe for concurrent use.
type Store struct {
	client *clientv3.Client
	etcd   *embed.Etcd
	lock   *dirLock
	log    *slog.Logger
	// shared: other controllers can hold parts of this store.
	shared bool
	// adding: one part is added at a time.
	adding sync.Mutex
}

// dialTimeout is how long an external cluster may take to answer at the start.
const dialTimeout = 10 * time.Second

// Open starts the embedded etcd, or connects to the external one, and waits until it answers.
func Open(ctx context.Context, config Config) (*Store, error) {
	if len(config.Endpoints) == 0 {
		return openEmbedded(ctx, config)
	}
	tlsConfig, err := externalTLS(config)
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: config.Endpoints, TLS: tlsConfig, DialTimeout: dialTimeout,
		DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		Context: context.WithoutCancel(ctx),
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %v: %w", config.Endpoints, err)
	}
	probe, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if _, err := client.Get(probe, "drydock"); err != nil {
		return nil, errors.Join(
			fmt.Errorf("etcd at %v does not answer: check `etcd.endpoints` and that the cluster has a quorum: %w", config.Endpoints, err),
			client.Close())
	}
	return &Store{client: client, log: config.Log}, nil
}

func externalTLS(config Config) (*tls.Config, error) {
	if config.CAFile == "" && config.CertFile == "" {
		return nil, nil
	}
	info := transport.TLSInfo{TrustedCAFile: config.CAFile, CertFile: config.CertFile, KeyFile: config.KeyFile}
	tlsConfig, err := info.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("load etcd's client certificate: %w", err)
	}
	return tlsConfig, nil
}

// Client is the etcd client, for what this package has no helper for.
func (s *Store) Client() *clientv3.Client { return s.client }

// Close disconnects, and stops an embedded etcd.
func (s *Store) Close() error {
	err := s.client.Close()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if s.etcd != nil {
		s.etcd.Close()
		err = errors.Join(err, s.lock.release())
	}
	return err
}

// Failed delivers an error when an embedded etcd has stopped by itself; it never delivers for an external one.
func (s *Store) Failed() <-chan error {
	if s.etcd == nil {
		return nil
	}
	return s.etcd.Err()
}

// Item is a value with its key and the revision that it was last written at.
type Item[M proto.Message] struct {
	Key      string
	Value    M
	Revision int64
}

// Get reads the value at key, or returns ErrNotFound.
func Get[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, s *Store, key string) (Item[M], error) {
	response, err := s.client.Get(ctx, key)
	if err != nil {
		return Item[M]{}, fmt.Errorf("read %s: %w", key, err)
	}
	if len(response.Kvs) == 0 {
		return Item[M]{}, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	value := M(new(T))
	if err := proto.Unmarshal(response.Kvs[0].Value, value); err != nil {
		return Item[M]{}, fmt.Errorf("decode %s: %w", key, err)
	}
	return Item[M]{Key: key, Value: value, Revision: response.Kvs[0].ModRevision}, nil
}

// List reads all values below prefix at one revision, in the order of their keys.
func List[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, s *Store, prefix string, options ...clientv3.OpOption) ([]Item[M], error) {
	response, err := s.client.Get(ctx, prefix, append([]clientv3.OpOption{clientv3.WithPrefix()}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	items := make([]Item[M], 0, len(response.Kvs))
	for _, kv := range response.Kvs {
		value := M(new(T))
		if err := proto.Unmarshal(kv.Value, value); err != nil {
			return nil, fmt.Errorf("decode %s: %w", kv.Key, err)
		}
		items = append(items, Item[M]{Key: string(kv.Key), Value: value, Revision: kv.ModRevision})
	}
	return items, nil
}

// Update reads the value at key, lets change alter it, and writes it back unless somebody else wrote in between: then it
// starts anew. change sees an empty value and revision 0 where there is none; its error ends the update with nothing
// written, and ErrUnchanged ends it well.
func Update[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, s *Store, key string, change func(item Item[M]) error) (Item[M], error) {
	for {
		item, err := Get[T, M](ctx, s, key)
		if errors.Is(err, ErrNotFound) {
			item = Item[M]{Key: key, Value: M(new(T))}
		} else if err != nil {
			return Item[M]{}, err
		}
		if err := change(item); errors.Is(err, ErrUnchanged) {
			return item, nil
		} else if err != nil {
			return item, err
		}
		txn := s.Txn().If(Unchanged(key, item.Revision)).Put(key, item.Value)
		item.Revision, err = txn.Commit(ctx)
		if err == nil || !errors.Is(err, ErrConflict) {
			return item, err
		}
	}
}

// ErrUnchanged tells Update that there is nothing to write.
var ErrUnchanged = errors.New("nothing to write")

// Bytes reads what is no message, or returns ErrNotFound.
func (s *Store) Bytes(ctx context.Context, key string) ([]byte, error) {
	response, err := s.client.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if len(response.Kvs) == 0 {
		return nil, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	return response.Kvs[0].Value, nil
}
