package main

import (
	"net"
	"path/filepath"
	"testing"
)

func TestOfSeveralControllersTheFirstThatAnswersIsAsked(t *testing.T) {
	p := newPool(t)
	dead := "unix://" + filepath.Join(p.dir, "dead.sock")
	// One that is paused takes connections, and says nothing.
	paused, err := net.Listen("unix", filepath.Join(p.dir, "paused.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer paused.Close()
	live := "unix://" + p.socket
	for _, servers := range []string{live + "," + dead, dead + "," + live, dead + ",unix://" + paused.Addr().String() + "," + live} {
		wants(t, p.run(t, "pod", "ls", "--server", servers), statusDone)
		if asked := p.controller.asked(); len(asked) != 1 {
			t.Errorf("%s: asked %v", servers, asked)
		}
	}
	wants(t, p.run(t, "pod", "ls", "--server", dead+","+dead), statusFailed, "no controller answers at "+dead+","+dead)
	wants(t, p.run(t, "pod", "ls", "--server", live+",ftp://x"), statusMisuse, `server "ftp://x"`)
}

func TestOfSeveralSocketsWithoutCredentialsTheFirstThatAnswersIsAsked(t *testing.T) {
	p := &pool{dir: newHome(t), controller: &fakeController{}}
	live, dead, paused := filepath.Join(p.dir, "live.sock"), filepath.Join(p.dir, "dead.sock"), filepath.Join(p.dir, "paused.sock")
	p.serveClear(t, live)
	silent, err := net.Listen("unix", paused)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, servers := range []string{live, live + ",unix://" + dead, dead + ",unix://" + live, paused + ",unix://" + dead + ",unix://" + live} {
		wants(t, p.run(t, "pod", "ls", "--server", "unix://"+servers), statusDone)
		if asked := p.controller.asked(); len(asked) != 1 {
			t.Errorf("%s: asked %v", servers, asked)
		}
	}
	wants(t, p.run(t, "pod", "ls", "--server", "unix://"+paused+",unix://"+dead), statusFailed, "no controller answers", "no sign of life")
	wants(t, p.run(t, "pod", "ls", "--server", "unix://"+live+",https://10.0.0.1:7440"), statusMisuse,
		`server "https://10.0.0.1:7440": a context without credentials is for unix sockets only`)
}
