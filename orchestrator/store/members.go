package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/embed"
)

// Membership makes an embedded store a part of one that several controllers hold: it lives as long as more than half of them do.
type Membership struct {
	// Name is the controller's, and Address, ip:port, where the other parts reach this one.
	Name, Address string
	// Others are the parts that this one joins, by name, and their URLs; none where it is the first, or has joined before.
	Others map[string]string
	// CAFile, CertFile and KeyFile are what parts know each other by, read again at every connection. Only certificates of that
	// CA for the common name Common are let in.
	CAFile, CertFile, KeyFile, Common string
}

// Member is one controller's part of the store.
type Member struct {
	ID uint64
	// Name is empty for one that was added and has not come yet.
	Name, URL string
	// Learner has no vote yet: it is catching up.
	Learner bool
}

// ErrNotYet: the store does not take another part now, but will.
var ErrNotYet = errors.New("the store takes no further part yet: all of its parts must have been there for some seconds, and have caught up")

// ErrAlone: the store is not one that others can join.
var ErrAlone = errors.New("the store is not shared")

// PeerURL is where a part of the store is reached that listens at address.
func PeerURL(address string) string { return "https://" + address }

func (m Membership) apply(settings *embed.Config) error {
	own, err := url.Parse(PeerURL(m.Address))
	if err != nil {
		return fmt.Errorf("address of the store: %w", err)
	}
	settings.Name = m.Name
	settings.ListenPeerUrls, settings.AdvertisePeerUrls = []url.URL{*own}, []url.URL{*own}
	settings.TickMs, settings.ElectionMs = sharedTick, sharedElection
	settings.TlsMinVersion = "TLS1.3"
	settings.PeerTLSInfo.CertFile, settings.PeerTLSInfo.KeyFile = m.CertFile, m.KeyFile
	settings.PeerTLSInfo.TrustedCAFile, settings.PeerTLSInfo.ClientCertAuth = m.CAFile, true
	settings.PeerTLSInfo.AllowedCNs = []string{m.Common}
	// Who may connect is in the common name; where from is no matter.
	settings.PeerTLSInfo.SkipClientSANVerify = true
	all := []string{m.Name + "=" + own.String()}
	for name, peer := range m.Others {
		all = append(all, name+"="+peer)
	}
	settings.InitialCluster = strings.Join(all, ",")
	if len(m.Others) > 0 {
		settings.ClusterState = embed.ClusterStateFlagExisting
	}
	return nil
}

// announce corrects where the others reach this part: a store that was alone has named no place.
func (s *Store) announce(ctx context.Context, address string) error {
	members, err := s.Members(ctx)
	if err != nil {
		return err
	}
	own := uint64(s.etcd.Server.MemberID())
	for _, m := range members {
		if m.ID == own && m.URL != PeerURL(address) {
			if _, err := s.client.MemberUpdate(ctx, own, []string{PeerURL(address)}); err != nil {
				return fmt.Errorf("announce the store at %s: %w", address, err)
			}
		}
	}
	return nil
}

// Members are all parts of an embedded store, in the order of their names; none of an external one.
func (s *Store) Members(ctx context.Context) ([]Member, error) {
	if s.etcd == nil {
		return nil, nil
	}
	response, err := s.client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the parts of the store: %w", err)
	}
	return membersOf(response.Members), nil
}

func membersOf(list []*etcdserverpb.Member) []Member {
	members := make([]Member, 0, len(list))
	for _, m := range list {
		member := Member{ID: m.ID, Name: m.Name, Learner: m.IsLearner}
		if len(m.PeerURLs) > 0 {
			member.URL = m.PeerURLs[0]
		}
		members = append(members, member)
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name+a.URL, b.Name+b.URL) })
	return members
}

// AddMember lets a part at address join, without a vote at first, and returns all parts. To add one again that has not come
// yet changes nothing.
func (s *Store) AddMember(ctx context.Context, address string) ([]Member, error) {
	s.adding.Lock()
	defer s.adding.Unlock()
	members, err := s.Members(ctx)
	if err != nil {
		return nil, err
	}
	if s.etcd == nil || !s.shared {
		return nil, ErrAlone
	}
	added := func(m Member) bool { return m.URL == PeerURL(address) }
	if slices.ContainsFunc(members, added) {
		return members, nil
	}
	// etcd finds a second one without a vote only when the change is in its log already. A part that starts anew takes it up from there,
	// and calls for ever at a part that there is not.
	if slices.ContainsFunc(members, func(m Member) bool { return m.Learner }) {
		return nil, ErrNotYet
	}
	response, err := s.client.MemberAddAsLearner(ctx, []string{PeerURL(address)})
	switch {
	case errors.Is(err, rpctypes.ErrUnhealthy), errors.Is(err, rpctypes.ErrTooManyLearners), errors.Is(err, rpctypes.ErrMemberNotEnoughStarted):
		return nil, ErrNotYet
	case err != nil:
		return nil, fmt.Errorf("add a part to the store: %w", err)
	}
	return membersOf(response.Members), nil
}

// PromoteMembers gives those a vote that have caught up.
func (s *Store) PromoteMembers(ctx context.Context) error {
	members, err := s.Members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		if !m.Learner {
			continue
		}
		_, err := s.client.MemberPromote(ctx, m.ID)
		if err != nil && !errors.Is(err, rpctypes.ErrMemberLearnerNotReady) && !strings.Contains(err.Error(), "in sync with leader") {
			return fmt.Errorf("give %s a vote in the store: %w", m.URL, err)
		}
	}
	return nil
}

// RemoveMember takes a part out of the store for good.
func (s *Store) RemoveMember(ctx context.Context, id uint64) error {
	if _, err := s.client.MemberRemove(ctx, id); err != nil {
		return fmt.Errorf("remove a part of the store: %w", err)
	}
	return nil
}
