package soak

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/lab"
	"drydock/lab/load"

	"connectrpc.com/connect"
)

const (
	port      = 6379
	writeRate = 1000 // a second, over all connections
	stopLimit = time.Minute
)

// startClients begins to write as soon as the service takes connections.
func (s *soak) startClients(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	answer, err := s.rig.GetPod(ctx, connect.NewRequest(&drydockv1.GetPodRequest{Name: pod}))
	if err != nil {
		return err
	}
	prefix, err := netip.ParsePrefix(answer.Msg.GetPod().GetSpec().GetAddresses()[0])
	if err != nil {
		return fmt.Errorf("address of pod %s: %w", pod, err)
	}
	addr := netip.AddrPortFrom(prefix.Addr(), port).String()
	dialer := load.Dialer{Netns: s.rig.NetNS(lab.ClientNode)}
	for {
		if s.probe, err = load.StartProbe(ctx, load.ProbeConfig{Dialer: dialer, Addr: addr}); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
	s.writers, err = load.StartRedisWriters(ctx, load.RedisConfig{
		Dialer: dialer, Addr: addr, Connections: s.Connections, Rate: writeRate, ValueSize: 512, Fill: true,
	})
	return err
}

// stopClients opens the books.
func (s *soak) stopClients(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	found, err := s.writers.Stop(ctx)
	probed := s.probe.Stop()
	s.report.ConnectionsBefore = found.ConnectionsBefore + probed.ConnectionsBefore
	s.report.ConnectionsAfter = found.ConnectionsAfter + probed.ConnectionsAfter
	s.report.AckedWrites, s.report.AckedWritesLost = found.AckedWrites, found.AckedWritesLost
	s.report.Errors, s.report.FirstError = found.Errors+probed.Errors, found.FirstError
	if s.report.FirstError == "" {
		s.report.FirstError = probed.FirstError
	}
	return err
}
