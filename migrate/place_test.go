package migrate

import (
	"context"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/migrate/owner"
	"drydock/migrate/transfer"
	"drydock/pods"

	"connectrpc.com/connect"
)

// away is a store that no controller answers for.
type away struct{ Store }

func (away) Look(context.Context, string) owner.View { return owner.View{} }

// mute is the other host: it takes questions and answers each when it is told to.
type mute struct {
	drydockv1connect.ReceiveServiceClient
	asked, answer chan struct{}
}

func (m mute) Receiver(*drydockv1.Peer) drydockv1connect.ReceiveServiceClient { return m }
func (m mute) Find(host string) (*drydockv1.Peer, bool)                       { return &drydockv1.Peer{Name: host}, true }
func (m mute) Images(*drydockv1.Peer) pods.OpenBlob                           { return nil }
func (m mute) Dial(context.Context, *drydockv1.Peer, transfer.Hello) (net.Conn, error) {
	return nil, os.ErrInvalid
}

func (m mute) GetState(ctx context.Context, _ *connect.Request[drydockv1.ReceiveStateRequest]) (*connect.Response[drydockv1.ReceiveStateResponse], error) {
	m.asked <- struct{}{}
	select {
	case <-m.answer:
	case <-ctx.Done():
	}
	return nil, connect.NewError(connect.CodeUnavailable, os.ErrDeadlineExceeded)
}

// receivingEngine is an engine that receives pod db by migration m1.
func receivingEngine(t *testing.T, peers Peers) *Engine {
	t.Helper()
	e := New(Config{
		Here: owner.Place{Host: "h2", BootID: "b2"}, DataDir: t.TempDir(), RunDir: t.TempDir(),
		Pods: new(pods.Runtime), Store: away{}, Peers: peers, Log: slog.New(slog.DiscardHandler),
	})
	err := e.journals.save(owner.Journal{
		Pod: "db", Side: owner.Destination, Stage: owner.Prepared, BootID: "b2", Migration: "m1", Peer: owner.Place{Host: "h1", BootID: "b1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAPeerThatIsSlowToAnswerKeepsNobodyFromThePod(t *testing.T) {
	peers := mute{asked: make(chan struct{}, 8), answer: make(chan struct{})}
	e := receivingEngine(t, peers)
	tended := make(chan error, 1)
	go func() { tended <- e.Tend(t.Context()) }()
	<-peers.asked
	release, held := e.tryHold("db")
	if !held {
		t.Error("nobody can act on the pod while the other host is asked")
	} else {
		release()
	}
	if state, err := e.State(t.Context(), "db", "m1"); err != nil || !state.Known {
		t.Errorf("the state while the other host is asked: %v, %v", state, err)
	}
	close(peers.answer)
	if err := <-tended; err != nil {
		t.Error(err)
	}
	if len(peers.asked) > 0 {
		t.Error("the other host was asked again by whoever acts on the pod")
	}
}

func TestASourceThatIsSlowToListenKeepsNobodyFromThePod(t *testing.T) {
	e := receivingEngine(t, mute{asked: make(chan struct{}, 8)})
	images, err := transfer.NewImageReceiver(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	coming := &arrival{migration: "m1", events: make(chan string, 8), images: images}
	e.place("db").setArrival(coming)
	coming.tell("an event")
	delivering, listen := make(chan struct{}), make(chan struct{})
	arrived := make(chan error, 1)
	go func() {
		_, err := e.Arrived(t.Context(), &drydockv1.ReceiveRestoreRequest{Pod: "db", Migration: "m1", Files: map[string]int64{"lost": 1}}, func(string) {
			close(delivering)
			<-listen
		})
		arrived <- err
	}()
	<-delivering
	release, err := e.hold(t.Context(), "db")
	if err != nil {
		t.Fatal(err)
	}
	release()
	close(listen)
	if err := <-arrived; err == nil {
		t.Error("an image that has not arrived was not missed")
	}
}

// TestAPlaceIsAskedWhileSomebodyActsOnIt is for the race detector.
func TestAPlaceIsAskedWhileSomebodyActsOnIt(t *testing.T) {
	e := receivingEngine(t, mute{})
	p := e.place("db")
	coming := &arrival{migration: "m1", events: make(chan string, 1)}
	p.setArrival(coming)
	var all sync.WaitGroup
	for _, do := range []func(){
		func() { p.begin(); p.interrupt(); p.settle() },
		func() { p.isInterrupted(); p.attempted(); p.framesHeld(); p.silence(); p.answered("m1") },
		func() { p.setAttempts(1); p.setFrames(1); p.heard(); p.setAsked(question{migration: "m1"}) },
		func() { p.settled(); coming.awaits(t.Context()); coming.setHold(nil) },
		func() { coming.isSettled(); coming.awaited(); coming.packets(); p.running("m1") },
		func() { p.setMoving(nil) },
		func() {
			if _, err := e.State(t.Context(), "db", "m1"); err != nil {
				t.Error(err)
			}
			_, _ = e.arrival("db", "m1")
			p.setArrival(coming)
		},
	} {
		all.Go(func() {
			for range 100 {
				do()
			}
		})
	}
	all.Wait()
}
