package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/config"
	"drydock/internal/pki"
	"drydock/pods/network"

	"connectrpc.com/connect"
)

// Doctor says what is in the way of pods running here and moving from and to here.
func (s *agentServer) Doctor(ctx context.Context, _ *connect.Request[drydockv1.DoctorHostRequest]) (*connect.Response[drydockv1.DoctorHostResponse], error) {
	s.proofs.Now(context.WithoutCancel(ctx)) // one that is cut off says nothing
	checks, err := s.host.Doctor(ctx)
	if err != nil {
		return nil, failed(err)
	}
	return connect.NewResponse(&drydockv1.DoctorHostResponse{Checks: checks}), nil
}

// probeWithin is how long frames may take to pass. The kernel asks three times for a neighbour, a second apart.
const probeWithin = 5 * time.Second

// ReachPeer tries whether another host can be reached, and whether the network between carries the frames of pods.
func (s *agentServer) ReachPeer(ctx context.Context, req *connect.Request[drydockv1.ReachPeerRequest]) (*connect.Response[drydockv1.ReachPeerResponse], error) {
	here, err := netip.ParsePrefix(req.Msg.ProbeAddress)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	there, err := netip.ParsePrefix(req.Msg.AnswerAddress)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	return connect.NewResponse(s.reach(ctx, req.Msg.Peer, here, there)), nil
}

func (s *agentServer) reach(ctx context.Context, peer *drydockv1.Peer, here, there netip.Prefix) *drydockv1.ReachPeerResponse {
	ctx, cancel := context.WithTimeout(ctx, 2*probeWithin)
	defer cancel()
	release, err := s.probing.hold(ctx, peer.GetName())
	if err != nil {
		return &drydockv1.ReachPeerResponse{Reason: err.Error()}
	}
	defer release()
	receiver := s.peers.Receiver(peer)
	res := &drydockv1.ReachPeerResponse{}
	if _, err := receiver.GetState(ctx, connect.NewRequest(&drydockv1.ReceiveStateRequest{})); err != nil {
		res.Reason = err.Error()
		return res
	}
	res.Reachable = true
	answerer, done, err := answeredAt(ctx, receiver, peer, there)
	if err != nil {
		res.Reason = fmt.Sprintf("host %s does not answer a probe: %v", peer.Name, err)
		return res
	}
	defer done()
	probing, over := context.WithTimeout(ctx, probeWithin)
	defer over()
	err = s.pods.Probe(probing, peer.Name, s.here.Host, here, answerer)
	res.CarriesForeignMac, res.Tried = err == nil, err == nil || errors.Is(err, network.ErrForeignMAC)
	if err != nil {
		res.Reason = err.Error()
	}
	return res
}

// answeredAt has the other host answer at an address, until done is called. One that is older than this answers only at its own,
// which does where hosts and pods are in one network.
func answeredAt(ctx context.Context, receiver drydockv1connect.ReceiveServiceClient, peer *drydockv1.Peer, there netip.Prefix) (at netip.Addr, done func(), err error) {
	answer, err := receiver.AnswerProbe(ctx, connect.NewRequest(&drydockv1.AnswerProbeRequest{Address: there.String()}))
	if err != nil {
		return at, nil, err
	}
	if answer.Receive() {
		return there.Addr(), func() { _ = answer.Close() }, nil
	}
	err = errors.Join(answer.Err(), answer.Close())
	if connect.CodeOf(err) != connect.CodeUnimplemented {
		return at, nil, err
	}
	own, err := netip.ParseAddrPort(peer.Address)
	return own.Addr(), func() {}, err
}

// AnswerProbe makes a network as a pod's for as long as the other host wants it. Only a host may ask, and each has one probe
// at a time.
func (s *receiveServer) AnswerProbe(ctx context.Context, req *connect.Request[drydockv1.AnswerProbeRequest], stream *connect.ServerStream[drydockv1.AnswerProbeResponse]) error {
	id, ok := pki.FromContext(ctx)
	if !ok || id.Kind != pki.Host || !config.ValidName(id.Name) {
		return connect.NewError(connect.CodePermissionDenied, errors.New("only a host may ask for an answer to its probe"))
	}
	address, err := netip.ParsePrefix(req.Msg.Address)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	release, err := s.answering.hold(ctx, id.Name)
	if err != nil {
		return failed(err)
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, 2*probeWithin)
	defer cancel()
	done, err := s.pods.AnswerProbe(ctx, "for."+id.Name, s.here.Host, address)
	if err != nil {
		return failed(err)
	}
	if err := stream.Send(&drydockv1.AnswerProbeResponse{}); err == nil {
		<-ctx.Done()
	}
	if err := done(); err != nil {
		return failed(err)
	}
	return nil
}
