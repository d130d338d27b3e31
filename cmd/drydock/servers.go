package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"
)

// dialWithin is how long one of several controllers may take to accept a connection, TLS included: one that is paused takes it and
// says nothing.
const dialWithin = 2 * time.Second

// others are the servers behind the first.
func (t *target) others() []string {
	return strings.Split(t.Server, ",")[1:]
}

// dialAny connects to the first of several controllers that answers. Any of them passes on to the one that leads.
func (t *target) dialAny(config *tls.Config, first dialFunc, others []string) (dialFunc, error) {
	ways := []dialFunc{first}
	for _, server := range others {
		dial, host, err := endpointOf(server)
		if err != nil {
			return nil, err
		}
		ways = append(ways, func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, host) })
	}
	config.NextProtos = []string{"h2"}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var failed []error
		for _, dial := range ways {
			conn, err := handshake(ctx, dial, network, address, config)
			if err == nil {
				return conn, nil
			}
			failed = append(failed, err)
		}
		return nil, errors.Join(failed...)
	}, nil
}

func handshake(ctx context.Context, dial dialFunc, network, address string, config *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	raw, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}
