package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// leaseSeconds is how long a leader that cannot reach the store stays one. Where a shared store has lost its own leader with the
// controller that led, its parts agree on another within a second or two, and leases last as long again from then on: another
// controller leads within about 10 s.
const leaseSeconds = 6

// Term is one time of leadership. Its revision is higher than that of every term before it.
type Term struct {
	session  *concurrency.Session
	election *concurrency.Election
	key      string
	revision int64
	lost     chan struct{}
	stop     context.CancelFunc
}

// Leader is who leads.
type Leader struct {
	// Name is unique among the controllers of a store: a data directory's lock and the CA's certificates see to that.
	Name string `json:"name"`
	// Address is where other controllers reach it.
	Address string `json:"address"`
}

// Campaign waits until me leads, or ctx ends. A leadership that a dead process of the same name has left is ended first.
func (s *Store) Campaign(ctx context.Context, prefix string, me Leader) (*Term, error) {
	value, err := json.Marshal(me)
	if err != nil {
		return nil, fmt.Errorf("campaign for leadership: %w", err)
	}
	if err := s.resignDead(ctx, prefix, me.Name); err != nil {
		return nil, err
	}
	session, err := concurrency.NewSession(s.client, concurrency.WithTTL(leaseSeconds))
	if err != nil {
		return nil, fmt.Errorf("begin a session with the store: %w", err)
	}
	election := concurrency.NewElection(session, prefix)
	if err := election.Campaign(ctx, string(value)); err != nil {
		return nil, errors.Join(fmt.Errorf("campaign for leadership: %w", err), session.Close())
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	term := &Term{
		session: session, election: election, key: election.Key(), revision: election.Rev(),
		lost: make(chan struct{}), stop: stop,
	}
	go s.watchTerm(watching, term)
	return term, nil
}

// watchTerm ends the term when its session may have ended, or when its key is gone: another process of the same name has
// taken over.
func (s *Store) watchTerm(ctx context.Context, term *Term) {
	defer close(term.lost)
	changes := s.client.Watch(ctx, term.Key(), clientv3.WithRev(term.Revision()+1), clientv3.WithFilterPut())
	for {
		select {
		case <-term.session.Done():
			return
		case response, open := <-changes:
			if !open || len(response.Events) > 0 || response.Err() != nil {
				return
			}
		}
	}
}

func (s *Store) resignDead(ctx context.Context, prefix, name string) error {
	response, err := s.client.Get(ctx, prefix+"/", clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("look for an earlier leadership of %s: %w", name, err)
	}
	for _, kv := range response.Kvs {
		leader, err := decodeLeader(kv.Value)
		if err != nil {
			return err
		}
		if leader.Name != name {
			continue
		}
		if _, err := s.client.Delete(ctx, string(kv.Key)); err != nil {
			return fmt.Errorf("end an earlier leadership of %s: %w", name, err)
		}
	}
	return nil
}

func decodeLeader(value []byte) (Leader, error) {
	var leader Leader
	if err := json.Unmarshal(value, &leader); err != nil {
		return Leader{}, fmt.Errorf("decode who leads: %w", err)
	}
	return leader, nil
}

// Candidates are all controllers that live: the one that leads, and after it those that would, in the order of their turn.
func (s *Store) Candidates(ctx context.Context, prefix string) ([]Leader, error) {
	response, err := s.client.Get(ctx, prefix+"/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		return nil, fmt.Errorf("look for controllers: %w", err)
	}
	all := make([]Leader, 0, len(response.Kvs))
	for _, kv := range response.Kvs {
		leader, err := decodeLeader(kv.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, leader)
	}
	return all, nil
}

// Leader is the controller that leads, or ErrNotFound.
func (s *Store) Leader(ctx context.Context, prefix string) (Leader, error) {
	response, err := s.client.Get(ctx, prefix+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return Leader{}, fmt.Errorf("look for the leader: %w", err)
	}
	if len(response.Kvs) == 0 {
		return Leader{}, fmt.Errorf("leader: %w", ErrNotFound)
	}
	return decodeLeader(response.Kvs[0].Value)
}

// Key and Revision identify the term: writes that only the leader may do depend on Key having been created at Revision.
func (t *Term) Key() string { return t.key }

// Revision is the term's number, higher than that of every term before.
func (t *Term) Revision() int64 { return t.revision }

// Holds is the condition of a write that only the leader may make.
func (t *Term) Holds() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(t.Key()), "=", t.Revision())
}

// Lost is closed when the term is over, or may be.
func (t *Term) Lost() <-chan struct{} { return t.lost }

// Resign ends the term, so that another may lead at once. There is nothing to end of one that was lost.
func (t *Term) Resign() error {
	t.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	err := t.election.Resign(ctx)
	if closed := t.session.Close(); !errors.Is(closed, rpctypes.ErrLeaseNotFound) {
		err = errors.Join(err, closed)
	}
	return err
}
