package agent

import (
	"context"
	"crypto/sha256"
	"net"
	"net/netip"

	drydockv1 "drydock/api/drydock/v1"

	"connectrpc.com/connect"
)

// Doctor says what is in the way of pods running here and moving from and to here.
func (s *agentServer) Doctor(ctx context.Context, _ *connect.Request[drydockv1.DoctorHostRequest]) (*connect.Response[drydockv1.DoctorHostResponse], error) {
	checks, err := s.host.Doctor(ctx)
	if err != nil {
		return nil, failed(err)
	}
	for _, peer := range s.peers.all() {
		check := &drydockv1.DoctorCheck{Name: "host " + peer.Name + " answers", Ok: true, Detail: peer.Address}
		_, err := s.peers.Receiver(peer).GetState(ctx, connect.NewRequest(&drydockv1.ReceiveStateRequest{}))
		if err != nil {
			check.Ok, check.Detail, check.Remedy = false, err.Error(), "open TCP port of its agent between the hosts, and see that it runs"
		}
		checks = append(checks, check)
	}
	return connect.NewResponse(&drydockv1.DoctorHostResponse{Checks: checks}), nil
}

// ReachPeer tries whether another host can be reached, and whether the network between carries the frames of pods.
func (s *agentServer) ReachPeer(ctx context.Context, req *connect.Request[drydockv1.ReachPeerRequest]) (*connect.Response[drydockv1.ReachPeerResponse], error) {
	res := &drydockv1.ReachPeerResponse{}
	_, err := s.peers.Receiver(req.Msg.Peer).GetState(ctx, connect.NewRequest(&drydockv1.ReceiveStateRequest{}))
	if err != nil {
		res.Reason = err.Error()
		return connect.NewResponse(res), nil
	}
	res.Reachable = true
	address, err := netip.ParsePrefix(req.Msg.ProbeAddress)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	peer, err := netip.ParseAddrPort(req.Msg.Peer.Address)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if err := s.pods.ProbeForeignMAC(ctx, address, probeMAC(s.here.Host), peer); err != nil {
		res.Reason = err.Error()
		return connect.NewResponse(res), nil
	}
	res.CarriesForeignMac = true
	return connect.NewResponse(res), nil
}

// probeMAC is a locally administered address that no pod has: those begin with another byte.
func probeMAC(host string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(host))
	return append(net.HardwareAddr{0x06, 0x64}, sum[:4]...)
}
