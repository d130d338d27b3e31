package migrate

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/migrate/owner"
	"drydock/migrate/transfer"
	"drydock/pods"
	"drydock/pods/network"

	"connectrpc.com/connect"
)

// move is one migration with this host as its source.
type move struct {
	*Engine
	spec   *drydockv1.MigrationSpec
	report *drydockv1.MigrationReport
	*feed

	rec         *pods.Record
	needs       *drydockv1.PodNeeds
	peer        *drydockv1.Peer
	receiver    drydockv1connect.ReceiveServiceClient
	destination owner.Place
	record      owner.Record
	incarnation uint64 // of the pod that moves
	mode        drydockv1.MigrationMode

	images  []net.Conn
	trees   []*tree
	dumps   *standby
	catch   *network.Catch
	sending *sending
	rounds  int // of pre-copy, before the dump
	bytes   atomic.Int64
	frozen  time.Time
	pages   *drydockv1.PageSource
	arrived *connect.ServerStreamForClient[drydockv1.ReceiveRestoreResponse]
	hangUp  context.CancelFunc // ends arrived
	// arrivedWhole: the destination has said that the pod runs there with all of its memory.
	arrivedWhole bool
}

// tree is one of the pod's directories on its way.
type tree struct {
	pods.Tree
	conn   net.Conn
	sender *transfer.FileSender
}

// imageStreams is how many connections carry CRIU's images. Encryption is what limits one of them, so there is one for
// each of the two processors that the smallest host has.
const imageStreams = 2

func (m *move) steps() []step {
	return []step{
		{name: "check", do: m.check},
		{name: "prepare", do: m.prepare, undo: m.discard},
		{name: "sync", do: m.sync},
		{name: "precopy", do: m.precopy, undo: m.endCopies, skip: m.skipPrecopy},
		{name: "freeze", do: m.freeze, undo: m.giveUp, frozen: true},
		{name: "dump", do: m.dump, frozen: true},
		{name: "restore", do: m.restore, frozen: true},
		{name: "decide", do: m.decided, frozen: true},
		{name: "plug in", do: m.pluggedIn},
		{name: "clean", do: m.finish},
	}
}

func (m *move) connect(ctx context.Context) error {
	for range imageStreams {
		conn, err := m.Peers.Dial(ctx, m.peer, transfer.Hello{Migration: m.spec.Id, Kind: transfer.Images, Name: m.spec.Pod})
		if err != nil {
			return err
		}
		m.images = append(m.images, transfer.Watch(conn, m.Silence))
	}
	all, err := m.Pods.Trees(ctx, m.spec.Pod)
	if err != nil {
		return err
	}
	for _, t := range all {
		conn, err := m.Peers.Dial(ctx, m.peer, transfer.Hello{Migration: m.spec.Id, Kind: transfer.Files, Name: m.spec.Pod + "/" + t.Name})
		if err != nil {
			return err
		}
		conn = transfer.Watch(conn, m.Silence)
		sender, err := transfer.NewFileSender(t.Dir, conn)
		if err != nil {
			return errors.Join(err, conn.Close())
		}
		m.trees = append(m.trees, &tree{t, conn, sender})
	}
	return nil
}

// close lets go of what the steps have opened.
func (m *move) close() {
	m.sending.stop()
	for _, conn := range m.images {
		_ = conn.Close()
	}
	for _, t := range m.trees {
		_ = errors.Join(t.sender.Close(), t.conn.Close())
	}
	if m.arrived != nil {
		_ = m.arrived.Close()
	}
	if m.hangUp != nil {
		m.hangUp()
	}
}

func (m *move) journal(stage owner.Stage) owner.Journal {
	return owner.Journal{
		Pod: m.spec.Pod, Side: owner.Source, Stage: stage, Incarnation: m.record.Incarnation, BootID: m.Here.BootID,
		Migration: m.spec.Id, Epoch: m.spec.Epoch, Peer: m.destination, PeerAddress: m.peer.Address, PostCopy: m.postcopy(),
	}
}

func (m *move) postcopy() bool { return m.mode == drydockv1.MigrationMode_MIGRATION_MODE_POSTCOPY }

// offerPages makes what the destination needs to ask for pages.
func (m *move) offerPages() (err error) {
	host, _, err := net.SplitHostPort(m.Address)
	if err != nil {
		return err
	}
	m.pages = &drydockv1.PageSource{Host: host, Ports: make(map[string]uint32)}
	m.pages.Certificate, m.pages.Key, err = makePageCredentials(m.dir(m.spec.Id))
	return err
}
