package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"drydock/lab/selfcheck"
)

// listen makes a plain TCP listener. Go's own choice is Multipath TCP where the kernel has it, and CRIU cannot dump that.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	var cfg net.ListenConfig
	cfg.SetMultipathTCP(false)
	return cfg.Listen(ctx, "tcp", addr)
}

// serve answers until the context ends.
func serve(ctx context.Context, listener net.Listener, rounds *checker) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go answer(ctx, conn, rounds)
	}
}

func answer(ctx context.Context, conn net.Conn, rounds *checker) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		reply, err := replyTo(lines.Text(), rounds)
		if err != nil {
			reply = []byte("error: " + err.Error())
		}
		if _, err := conn.Write(append(reply, '\n')); err != nil {
			return
		}
	}
}

func replyTo(line string, rounds *checker) ([]byte, error) {
	switch line {
	case selfcheck.Ask[:len(selfcheck.Ask)-1]:
		return []byte(selfcheck.Answer[:len(selfcheck.Answer)-1]), nil
	case "check":
		return json.Marshal(rounds.report())
	case "":
		return nil, errors.New("say ping or check")
	}
	return nil, fmt.Errorf("unknown request %q: say ping or check", line)
}
