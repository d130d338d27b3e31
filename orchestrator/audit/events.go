package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/config"
	"drydock/orchestrator/store"
)

// eventPage is how many events are read from the store at a time.
const eventPage = 1000

// List sends what was recorded, the oldest first, and with watch what is recorded from then on. An event whose outcome
// comes later is sent again with it.
func (t *Trail) List(ctx context.Context, request *drydockv1.ListEventsRequest, send func(*drydockv1.Event) error) error {
	from := ""
	if request.GetSince() != nil {
		from = eventID(request.GetSince().AsTime())
	}
	picked := func(event *drydockv1.Event) error {
		if concernsObject(event, request.GetObject()) {
			return send(event)
		}
		return nil
	}
	revision, err := t.pastEvents(ctx, from, picked)
	if err != nil || !request.GetWatch() {
		return err
	}
	return t.comingEvents(ctx, revision+1, from, picked)
}

// concernsObject says whether an event is of an object, given as its name or as kind and name; all are of the empty one.
func concernsObject(event *drydockv1.Event, object string) bool {
	return object == "" || event.GetObject() == object || strings.HasSuffix(event.GetObject(), " "+object)
}

// pastEvents sends what is in the store, as it was at the revision that it returns.
func (t *Trail) pastEvents(ctx context.Context, from string, send func(*drydockv1.Event) error) (revision int64, err error) {
	for {
		options := []clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(t.eventsPrefix())), clientv3.WithLimit(eventPage)}
		if revision != 0 {
			options = append(options, clientv3.WithRev(revision))
		}
		page, err := t.Store.Client().Get(ctx, t.eventsPrefix()+from, options...)
		if err != nil {
			return 0, fmt.Errorf("list events: %w", err)
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		if len(page.Kvs) == 0 {
			return revision, nil
		}
		last := strings.TrimPrefix(string(page.Kvs[len(page.Kvs)-1].Key), t.eventsPrefix())
		outcomes, err := t.outcomes(ctx, revision, strings.TrimPrefix(string(page.Kvs[0].Key), t.eventsPrefix()), last+"\x00")
		if err != nil {
			return 0, err
		}
		for _, kv := range page.Kvs {
			event := new(drydockv1.Event)
			if err := proto.Unmarshal(kv.Value, event); err != nil {
				return 0, fmt.Errorf("decode %s: %w", kv.Key, err)
			}
			if err := send(ended(event, outcomes[event.GetId()])); err != nil {
				return 0, err
			}
		}
		if !page.More {
			return revision, nil
		}
		from = last + "\x00"
	}
}

func (t *Trail) outcomes(ctx context.Context, revision int64, from, end string) (map[string]*drydockv1.Event, error) {
	items, err := store.List[drydockv1.Event](ctx, t.Store, t.outcomesPrefix()+from, clientv3.WithRange(t.outcomesPrefix()+end), clientv3.WithRev(revision))
	if err != nil {
		return nil, err
	}
	outcomes := make(map[string]*drydockv1.Event, len(items))
	for _, item := range items {
		outcomes[item.Value.GetId()] = item.Value
	}
	return outcomes, nil
}

// ended is an event with its outcome, where there is one.
func ended(event, outcome *drydockv1.Event) *drydockv1.Event {
	if outcome != nil {
		event.Outcome, event.Detail, event.Ended = outcome.GetOutcome(), outcome.GetDetail(), outcome.GetEnded()
	}
	return event
}

// comingEvents sends what is recorded from a revision on, until ctx ends.
func (t *Trail) comingEvents(ctx context.Context, revision int64, from string, send func(*drydockv1.Event) error) error {
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	begun := t.Store.Client().Watch(watching, t.eventsPrefix()+from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(t.eventsPrefix())),
		clientv3.WithRev(revision), clientv3.WithFilterDelete())
	over := t.Store.Client().Watch(watching, t.outcomesPrefix()+from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(t.outcomesPrefix())),
		clientv3.WithRev(revision), clientv3.WithFilterDelete())
	for {
		var changes clientv3.WatchResponse
		select {
		case changes = <-begun:
		case changes = <-over:
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := changes.Err(); err != nil || len(changes.Events) == 0 {
			return connect.NewError(connect.CodeUnavailable, errors.Join(errors.New("the store tells no further events: ask again"), err))
		}
		for _, change := range changes.Events {
			event, err := t.changedEvent(ctx, string(change.Kv.Key), change.Kv.Value)
			if err != nil {
				return err
			}
			if err := send(event); err != nil {
				return err
			}
		}
	}
}

// changedEvent is the event that a change in the store is about.
func (t *Trail) changedEvent(ctx context.Context, key string, value []byte) (*drydockv1.Event, error) {
	event := new(drydockv1.Event)
	if err := proto.Unmarshal(value, event); err != nil {
		return nil, fmt.Errorf("decode %s: %w", key, err)
	}
	if strings.HasPrefix(key, t.eventsPrefix()) {
		return event, nil
	}
	first, err := store.Get[drydockv1.Event](ctx, t.Store, t.eventsPrefix()+event.GetId())
	if err != nil {
		return nil, err
	}
	return ended(first.Value, event), nil
}

// trimEvery is how often the leader looks whether events are too many or too old.
const trimEvery = 10 * time.Minute

// Keep keeps the record within bounds until ctx, which is a term's, ends.
func (t *Trail) Keep(ctx context.Context, bounds config.Audit) {
	for {
		if err := t.Trim(ctx, bounds); err != nil && ctx.Err() == nil {
			t.Log.Error("events not trimmed", "error", err)
		}
		select {
		case <-time.After(trimEvery):
		case <-ctx.Done():
			return
		}
	}
}

// Trim removes what is too old or too much, and records that in the same transaction.
func (t *Trail) Trim(ctx context.Context, bounds config.Audit) error {
	old, err := t.countEvents(ctx, t.eventsPrefix()+eventID(t.Now().Add(-bounds.MaxAge)))
	if err != nil {
		return err
	}
	all, err := t.countEvents(ctx, clientv3.GetPrefixRangeEnd(t.eventsPrefix()))
	if err != nil {
		return err
	}
	// What is removed leaves room for the event that says so.
	excess := max(old, all+1-bounds.MaxEvents)
	if old == 0 && all <= bounds.MaxEvents {
		return nil
	}
	page, err := t.Store.Client().Get(ctx, t.eventsPrefix(), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(excess))
	if err != nil || len(page.Kvs) == 0 {
		return err
	}
	last := strings.TrimPrefix(string(page.Kvs[len(page.Kvs)-1].Key), t.eventsPrefix())
	event := t.newEvent(ctx, "events trim", "events")
	event.Outcome, event.Ended = Done, event.Time
	event.Reason = fmt.Sprintf("audit.max-age %s, audit.max-events %d", bounds.MaxAge, bounds.MaxEvents)
	event.Detail = fmt.Sprintf("removed the oldest %d of %d events", len(page.Kvs), all)
	_, err = t.Store.Txn().
		DeleteRange(t.eventsPrefix(), t.eventsPrefix()+last+"\x00").DeleteRange(t.outcomesPrefix(), t.outcomesPrefix()+last+"\x00").
		Put(t.eventsPrefix()+event.GetId(), event).Commit(ctx)
	if err == nil {
		t.Log.Info("events trimmed", "removed", len(page.Kvs), "of", all, "bounds", event.GetReason())
	}
	return err
}

// countEvents counts the events before a key.
func (t *Trail) countEvents(ctx context.Context, end string) (int64, error) {
	response, err := t.Store.Client().Get(ctx, t.eventsPrefix(), clientv3.WithRange(end), clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("count events: %w", err)
	}
	return response.Count, nil
}
