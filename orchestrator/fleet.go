package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/migrate/owner"
	"drydock/orchestrator/store"
)

// fleet is what a leader knows of all hosts without asking the store, so that a report costs no more in a large fleet than in a
// small one: hosts, owners and the network as the store tells them, a moment late, and what each host has said last. It decides
// nothing: whoever does reads the store.
type fleet struct {
	mu sync.RWMutex
	// revision is how far the store was followed.
	revision int64
	hosts    map[string]store.Item[*drydockv1.HostRecord]
	// changes are those of hosts after the revision complete, in order; what came before is in hosts alone.
	changes  []change
	complete int64
	owners   map[string]owner.Record
	// of are the pods that concern each host.
	of      map[string]map[string]bool
	network *drydockv1.NetworkRecord
	reports map[string]*drydockv1.HostReport
}

// change is that a host's record was written or removed.
type change struct {
	host     string
	revision int64
}

// keepChanges is how many changes are kept: who was told less lately is told everything.
const keepChanges = 4096

// followed is what a fleet is read from.
func followed() []string { return []string{keyHosts, keyOwners, keyNetwork} }

// newFleet reads the fleet, as it is at one revision.
func (c *Controller) newFleet(ctx context.Context) (*fleet, error) {
	f := &fleet{
		hosts:  make(map[string]store.Item[*drydockv1.HostRecord]),
		owners: make(map[string]owner.Record), of: make(map[string]map[string]bool), reports: make(map[string]*drydockv1.HostReport),
	}
	for _, prefix := range append(followed(), keyReports) {
		options := []clientv3.OpOption{clientv3.WithPrefix()}
		if f.revision != 0 {
			options = append(options, clientv3.WithRev(f.revision))
		}
		response, err := c.store.Client().Get(ctx, prefix, options...)
		if err != nil {
			return nil, fmt.Errorf("read the fleet: %w", err)
		}
		if f.revision == 0 {
			f.revision = response.Header.Revision
		}
		for _, kv := range response.Kvs {
			if err := f.set(string(kv.Key), kv.Value, kv.ModRevision); err != nil {
				return nil, err
			}
		}
	}
	f.changes, f.complete = nil, f.revision
	return f, nil
}

// errBehind: the store no longer tells what came after the fleet's revision.
var errBehind = errors.New("what the leader knows of the fleet is no longer kept current")

// follow keeps the fleet current until ctx ends, or as long as the store tells what changes.
func (f *fleet) follow(ctx context.Context, s *store.Store) error {
	changes := s.Client().Watch(clientv3.WithRequireLeader(ctx), keyRoot, clientv3.WithPrefix(), clientv3.WithRev(f.revision+1))
	for response := range changes {
		if err := response.Err(); err != nil {
			return fmt.Errorf("%w: %w", errBehind, err)
		}
		if err := f.apply(response); err != nil {
			return err
		}
	}
	return errBehind
}

// followFleet keeps what the leader knows current for as long as the term lasts.
func (c *Controller) followFleet(r *reign) {
	for r.ctx.Err() == nil {
		err := r.fleet.Load().follow(r.ctx, c.store)
		if r.ctx.Err() != nil {
			return
		}
		c.log.Warn("the fleet is read anew", "error", err)
		fresh, err := c.newFleet(r.ctx)
		if err != nil {
			c.log.Error("fleet not read", "error", err)
			sleep(r.ctx, time.Second)
			continue
		}
		fresh.takeReports(r.fleet.Load())
		r.fleet.Store(fresh)
	}
}

// takeReports takes over what hosts have said.
func (f *fleet) takeReports(from *fleet) {
	from.mu.RLock()
	defer from.mu.RUnlock()
	maps.Copy(f.reports, from.reports)
}

func (f *fleet) apply(response clientv3.WatchResponse) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, event := range response.Events {
		key := string(event.Kv.Key)
		if event.Type == clientv3.EventTypeDelete {
			f.unset(key, event.Kv.ModRevision)
			continue
		}
		if err := f.set(key, event.Kv.Value, event.Kv.ModRevision); err != nil {
			return err
		}
	}
	f.revision = max(f.revision, response.Header.Revision)
	return nil
}

func (f *fleet) set(key string, value []byte, revision int64) error {
	switch {
	case strings.HasPrefix(key, keyHosts):
		record := new(drydockv1.HostRecord)
		if err := proto.Unmarshal(value, record); err != nil {
			return fmt.Errorf("decode %s: %w", key, err)
		}
		f.hosts[record.GetName()] = store.Item[*drydockv1.HostRecord]{Key: key, Value: record, Revision: revision}
		f.changed(record.GetName(), revision)
	case strings.HasPrefix(key, keyOwners):
		record, err := owner.Decode(value, revision)
		if err != nil {
			return err
		}
		f.setOwner(record)
	case key == keyNetwork:
		f.network = new(drydockv1.NetworkRecord)
		if err := proto.Unmarshal(value, f.network); err != nil {
			return fmt.Errorf("decode %s: %w", key, err)
		}
	case strings.HasPrefix(key, keyReports):
		name := strings.TrimPrefix(key, keyReports)
		if f.reports[name] != nil {
			// What the host has said to this leader is newer.
			return nil
		}
		report := new(drydockv1.HostReport)
		if err := proto.Unmarshal(value, report); err != nil {
			return fmt.Errorf("decode %s: %w", key, err)
		}
		f.reports[name] = report
	}
	return nil
}

func (f *fleet) unset(key string, revision int64) {
	switch {
	case strings.HasPrefix(key, keyHosts):
		name := strings.TrimPrefix(key, keyHosts)
		delete(f.hosts, name)
		f.changed(name, revision)
	case strings.HasPrefix(key, keyReports):
		delete(f.reports, strings.TrimPrefix(key, keyReports))
	case strings.HasPrefix(key, keyOwners):
		f.setOwner(owner.Record{Pod: strings.TrimPrefix(key, keyOwners)})
	case key == keyNetwork:
		f.network = nil
	}
}

func (f *fleet) changed(host string, revision int64) {
	f.changes = append(f.changes, change{host: host, revision: revision})
	if surplus := len(f.changes) - keepChanges; surplus >= keepChanges {
		f.complete = f.changes[surplus-1].revision
		f.changes = slices.Clone(f.changes[surplus:])
	}
}

func (f *fleet) setOwner(record owner.Record) {
	before := f.owners[record.Pod]
	for _, host := range partiesOf(before) {
		delete(f.of[host], record.Pod)
	}
	f.owners[record.Pod] = record
	for _, host := range partiesOf(record) {
		if !concerns(record, host) {
			continue
		}
		if f.of[host] == nil {
			f.of[host] = make(map[string]bool)
		}
		f.of[host][record.Pod] = true
	}
}

func partiesOf(record owner.Record) []string {
	return []string{record.Owner.Host, record.Source.Host, record.Destination.Host}
}

// host is a host's record, where it is known.
func (f *fleet) host(name string) (store.Item[*drydockv1.HostRecord], bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	item, ok := f.hosts[name]
	return item, ok
}

// forget drops a host that was just removed, before the store tells. Other hosts are told of it when the store does: what they are
// told goes by revisions, in their order.
func (f *fleet) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.hosts, name)
	delete(f.reports, name)
}

// heard keeps what a host says, and returns what it had said before.
func (f *fleet) heard(name string, report *drydockv1.HostReport) *drydockv1.HostReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.reports[name]
	f.reports[name] = report
	return before
}

// unheard puts back what a host had said before: what came after it was not kept.
func (f *fleet) unheard(name string, before *drydockv1.HostReport) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports[name] = before
}

func (f *fleet) report(name string) *drydockv1.HostReport {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.reports[name]
}

// ownersOf are the records of all pods that concern a host, and those among the reported ones that are known.
func (f *fleet) ownersOf(host string, reported []*drydockv1.Pod) map[string]owner.Record {
	f.mu.RLock()
	defer f.mu.RUnlock()
	found := make(map[string]owner.Record)
	for name := range f.of[host] {
		found[name] = f.owners[name]
	}
	for _, pod := range reported {
		name := pod.GetSpec().GetName()
		if record, ok := f.owners[name]; ok {
			found[name] = record
		}
	}
	return found
}

func (f *fleet) networkRecord() *drydockv1.NetworkRecord {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.network
}

// ownerRecords are those of all pods but removed ones.
func (f *fleet) ownerRecords() map[string]owner.Record {
	f.mu.RLock()
	defer f.mu.RUnlock()
	records := make(map[string]owner.Record, len(f.owners))
	for name, record := range f.owners {
		if record.State != owner.Removed && record.Revision != 0 {
			records[name] = record
		}
	}
	return records
}

// knownHosts are all hosts, a moment late, for looking at them again and again.
func (c *Controller) knownHosts(r *reign) map[string]host {
	f := r.fleet.Load()
	f.mu.RLock()
	defer f.mu.RUnlock()
	hosts := make(map[string]host, len(f.hosts))
	for name, item := range f.hosts {
		h := host{record: item.Value, revision: item.Revision, report: f.reports[name]}
		h.state, h.message = c.stateOf(h)
		hosts[name] = h
	}
	return hosts
}
