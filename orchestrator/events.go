package orchestrator

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

// listEvents sends what was recorded, the oldest first, and with watch what is recorded from then on. An event whose outcome
// comes later is sent again with it.
func (c *Controller) listEvents(ctx context.Context, request *drydockv1.ListEventsRequest, send func(*drydockv1.Event) error) error {
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
	revision, err := c.pastEvents(ctx, from, picked)
	if err != nil || !request.GetWatch() {
		return err
	}
	return c.comingEvents(ctx, revision+1, from, picked)
}

// concernsObject says whether an event is of an object, given as its name or as kind and name; all are of the empty one.
func concernsObject(event *drydockv1.Event, object string) bool {
	return object == "" || event.GetObject() == object || strings.HasSuffix(event.GetObject(), " "+object)
}

// pastEvents sends what is in the store, as it was at the revision that it returns.
func (c *Controller) pastEvents(ctx context.Context, from string, send func(*drydockv1.Event) error) (revision int64, err error) {
	for {
		options := []clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(keyEvents)), clientv3.WithLimit(eventPage)}
		if revision != 0 {
			options = append(options, clientv3.WithRev(revision))
		}
		page, err := c.store.Client().Get(ctx, keyEvents+from, options...)
		if err != nil {
			return 0, fmt.Errorf("list events: %w", err)
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		if len(page.Kvs) == 0 {
			return revision, nil
		}
		last := strings.TrimPrefix(string(page.Kvs[len(page.Kvs)-1].Key), keyEvents)
		outcomes, err := c.outcomes(ctx, revision, strings.TrimPrefix(string(page.Kvs[0].Key), keyEvents), last+"\x00")
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

func (c *Controller) outcomes(ctx context.Context, revision int64, from, end string) (map[string]*drydockv1.Event, error) {
	items, err := store.List[drydockv1.Event](ctx, c.store, keyOutcomes+from, clientv3.WithRange(keyOutcomes+end), clientv3.WithRev(revision))
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
func (c *Controller) comingEvents(ctx context.Context, revision int64, from string, send func(*drydockv1.Event) error) error {
	watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	begun := c.store.Client().Watch(watching, keyEvents+from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(keyEvents)),
		clientv3.WithRev(revision), clientv3.WithFilterDelete())
	over := c.store.Client().Watch(watching, keyOutcomes+from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(keyOutcomes)),
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
			event, err := c.changedEvent(ctx, string(change.Kv.Key), change.Kv.Value)
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
func (c *Controller) changedEvent(ctx context.Context, key string, value []byte) (*drydockv1.Event, error) {
	event := new(drydockv1.Event)
	if err := proto.Unmarshal(value, event); err != nil {
		return nil, fmt.Errorf("decode %s: %w", key, err)
	}
	if strings.HasPrefix(key, keyEvents) {
		return event, nil
	}
	first, err := store.Get[drydockv1.Event](ctx, c.store, keyEvents+event.GetId())
	if err != nil {
		return nil, err
	}
	return ended(first.Value, event), nil
}

// trimEvery is how often the leader looks whether events are too many or too old.
const trimEvery = 10 * time.Minute

func (c *Controller) keepEventsBounded(r *reign) {
	for {
		if err := c.trimEvents(r.ctx, c.config.Audit); err != nil && r.ctx.Err() == nil {
			c.log.Error("events not trimmed", "error", err)
		}
		if !sleep(r.ctx, trimEvery) {
			return
		}
	}
}

// trimEvents removes what is too old or too much, and records that in the same transaction.
func (c *Controller) trimEvents(ctx context.Context, bounds config.Audit) error {
	old, err := c.countEvents(ctx, keyEvents+eventID(c.now().Add(-bounds.MaxAge)))
	if err != nil {
		return err
	}
	all, err := c.countEvents(ctx, clientv3.GetPrefixRangeEnd(keyEvents))
	if err != nil {
		return err
	}
	// What is removed leaves room for the event that says so.
	excess := max(old, all+1-bounds.MaxEvents)
	if old == 0 && all <= bounds.MaxEvents {
		return nil
	}
	page, err := c.store.Client().Get(ctx, keyEvents, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(excess))
	if err != nil || len(page.Kvs) == 0 {
		return err
	}
	last := strings.TrimPrefix(string(page.Kvs[len(page.Kvs)-1].Key), keyEvents)
	event := c.newEvent(ctx, "events trim", "events")
	event.Outcome, event.Ended = eventDone, event.Time
	event.Reason = fmt.Sprintf("audit.max-age %s, audit.max-events %d", bounds.MaxAge, bounds.MaxEvents)
	event.Detail = fmt.Sprintf("removed the oldest %d of %d events", len(page.Kvs), all)
	_, err = c.store.Txn().
		DeleteRange(keyEvents, keyEvents+last+"\x00").DeleteRange(keyOutcomes, keyOutcomes+last+"\x00").
		Put(keyEvents+event.GetId(), event).Commit(ctx)
	if err == nil {
		c.log.Info("events trimmed", "removed", len(page.Kvs), "of", all, "bounds", event.GetReason())
	}
	return err
}

// countEvents counts the events before a key.
func (c *Controller) countEvents(ctx context.Context, end string) (int64, error) {
	response, err := c.store.Client().Get(ctx, keyEvents, clientv3.WithRange(end), clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("count events: %w", err)
	}
	return response.Count, nil
}
