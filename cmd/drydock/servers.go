package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"drydock/internal/reach"
)

// others are the servers behind the first.
func (t *target) others() []string {
	return strings.Split(t.Server, ",")[1:]
}

// dialAny connects to the first of several controllers that answers. Any of them passes on to the one that leads.
func (t *target) dialAny(config *tls.Config, first dialFunc, others []string) (dialFunc, error) {
	config.NextProtos = []string{"h2"}
	secure := func(dial dialFunc) dialFunc {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			return handshake(ctx, dial, network, address, config)
		}
	}
	ways := []dialFunc{secure(first)}
	for _, server := range others {
		dial, host, err := endpointOf(server)
		if err != nil {
			return nil, err
		}
		ways = append(ways, secure(func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, host) }))
	}
	return reach.First(ways...), nil
}

func handshake(ctx context.Context, dial dialFunc, network, address string, config *tls.Config) (net.Conn, error) {
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

// dialAnySocket is dialAny for unix sockets that are used without TLS.
func (t *target) dialAnySocket(first dialFunc, others []string) (dialFunc, error) {
	ways := []dialFunc{reach.InTheClear(first)}
	for _, server := range others {
		dial, _, err := endpointOf(server)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(server, "unix:") {
			return nil, &failure{
				status:   statusMisuse,
				message:  fmt.Sprintf("server %q: a context without credentials is for unix sockets only", server),
				remedies: []string{"name PEM files with --ca, --cert and --key, or in the context"},
			}
		}
		ways = append(ways, reach.InTheClear(dial))
	}
	return reach.First(ways...), nil
}
