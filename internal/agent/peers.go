package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/pki"
	"drydock/migrate/transfer"
	"drydock/pods"

	"connectrpc.com/connect"
)

// peerSet reaches the agents of other hosts. It implements migrate.Peers.
type peerSet struct {
	keeper *pki.Keeper

	mu    sync.Mutex
	known map[string]*drydockv1.Peer
	// told are all other hosts, as controllers said at a revision; 0: they are to be asked for all of them.
	told     map[string]*drydockv1.Peer
	revision int64
	links    map[string]link
}

func newPeers(keeper *pki.Keeper) *peerSet {
	return &peerSet{keeper: keeper, known: make(map[string]*drydockv1.Peer), links: make(map[string]link)}
}

// learn takes in what a controller said of the other hosts - all of them, or what has changed - and returns them all, by name.
func (p *peerSet) learn(said *drydockv1.ReportResponse) []*drydockv1.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told == nil || !said.PeersChanged {
		p.told = make(map[string]*drydockv1.Peer)
	}
	for _, peer := range said.Peers {
		p.known[peer.Name], p.told[peer.Name] = peer, peer
	}
	for _, name := range said.PeersRemoved {
		delete(p.told, name)
	}
	p.revision = said.PeersRevision
	if said.PeersChanged && len(p.told) != int(said.PeersCount) {
		p.revision = 0
	}
	all := slices.Collect(maps.Values(p.told))
	slices.SortFunc(all, func(a, b *drydockv1.Peer) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// current is the revision that the other hosts are known at.
func (p *peerSet) current() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.revision
}

// Find is how to reach a host by its name.
func (p *peerSet) Find(host string) (*drydockv1.Peer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer, found := p.known[host]
	return peer, found
}

// link is the connection to a peer in one of its boots. One to an earlier boot leads nowhere, but nothing says so until a call
// is lost on it.
type link struct {
	*http.Client
	address, boot string
}

// client keeps one HTTP/2 connection to each peer.
func (p *peerSet) client(peer *drydockv1.Peer) (*http.Client, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.known[peer.Name]; peer.BootId == "" && known.GetAddress() == peer.Address {
		peer = known
	}
	p.known[peer.Name] = peer
	base := "https://" + peer.Address
	if l, found := p.links[peer.Name]; found {
		if l.address == peer.Address && l.boot == peer.BootId {
			return l.Client, base
		}
		l.CloseIdleConnections()
	}
	c, _, err := pki.Client(base, p.keeper, pki.ExpectHost(peer.Name))
	if err != nil {
		c = &http.Client{Transport: failing{err}}
	}
	p.links[peer.Name] = link{c, peer.Address, peer.BootId}
	return c, base
}

// failing is the transport to an address that is none.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// Receiver is a host's receiving side.
func (p *peerSet) Receiver(peer *drydockv1.Peer) drydockv1connect.ReceiveServiceClient {
	client, base := p.client(peer)
	return drydockv1connect.NewReceiveServiceClient(client, base, connect.WithInterceptors(pki.AskAgain()))
}

// Images opens the content store of another host.
func (p *peerSet) Images(peer *drydockv1.Peer) pods.OpenBlob {
	client, base := p.client(peer)
	service := drydockv1connect.NewAgentServiceClient(client, base)
	return func(ctx context.Context, dgst string) (io.ReadCloser, error) {
		stream, err := service.ReadBlob(ctx, connect.NewRequest(&drydockv1.ReadBlobRequest{Digest: dgst}))
		if err != nil {
			return nil, fmt.Errorf("host %s: %w", peer.Name, err)
		}
		return &blobReader{stream: stream}, nil
	}
}

type blobReader struct {
	stream *connect.ServerStreamForClient[drydockv1.ReadBlobResponse]
	rest   []byte
}

func (b *blobReader) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if !b.stream.Receive() {
			if err := b.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		b.rest = b.stream.Msg().Data
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *blobReader) Close() error { return b.stream.Close() }

// unacknowledged is how long a connection may wait for the other side's kernel before it is given up.
const unacknowledged = 10 * time.Second

// Dial opens a connection that carries a migration's bytes. It ends by itself when the other host is silent.
func (p *peerSet) Dial(ctx context.Context, peer *drydockv1.Peer, hello transfer.Hello) (net.Conn, error) {
	config := p.keeper.ClientTLS(pki.ExpectHost(peer.Name))
	config.NextProtos = []string{transfer.Protocol}
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second, Control: limitSilence}, Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", peer.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to host %s: %w", peer.Name, err)
	}
	var answer transfer.Answer
	_ = conn.SetDeadline(time.Now().Add(helloWithin))
	err = transfer.WriteMessage(conn, hello)
	if err == nil {
		err = transfer.ReadMessage(conn, &answer)
	}
	if err == nil {
		err = answer.Err()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to host %s for %s: %w", peer.Name, hello.Kind, err), conn.Close())
	}
	return conn, conn.SetDeadline(time.Time{})
}
