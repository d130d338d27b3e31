package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
)

// ownerRecords reads who may run each pod; removed ones are left out.
func (c *Controller) ownerRecords(ctx context.Context) (map[string]owner.Record, error) {
	response, err := c.store.Client().Get(ctx, keyOwners, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("list owners: %w", err)
	}
	records := make(map[string]owner.Record, len(response.Kvs))
	for _, kv := range response.Kvs {
		record, err := owner.Decode(kv.Value, kv.ModRevision)
		if err != nil {
			return nil, err
		}
		if record.State != owner.Removed {
			records[record.Pod] = record
		}
	}
	return records, nil
}

// ownerOf reads who may run a pod; the zero record where there is none.
func (c *Controller) ownerOf(ctx context.Context, pod string) (owner.Record, error) {
	record, err := c.owners.Get(ctx, pod)
	if errors.Is(err, owner.ErrNotFound) {
		return owner.Record{Pod: pod}, nil
	}
	return record, err
}

// hostOf is the host that a pod belongs to, or "".
func hostOf(record owner.Record) string {
	if record.State == owner.Removed {
		return ""
	}
	return record.Owner.Host
}

// concerns says whether a host has, or may have, anything of the pod.
func concerns(record owner.Record, host string) bool {
	if record.State == owner.Removed || record.State == owner.Created {
		return false
	}
	moving := record.State == owner.Moving || !record.Settled
	return record.Owner.Host == host || moving && (record.Source.Host == host || record.Destination.Host == host)
}

func ownerWire(record owner.Record) (*drydockv1.OwnerRecord, error) {
	if record.Revision == 0 {
		return &drydockv1.OwnerRecord{Pod: record.Pod}, nil
	}
	encoded, err := record.Encode()
	if err != nil {
		return nil, err
	}
	return &drydockv1.OwnerRecord{Pod: record.Pod, Record: encoded, Revision: record.Revision}, nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
