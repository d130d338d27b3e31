package pki

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
)

// JoinRequest is what a host needs to become one of a controller's.
type JoinRequest struct {
	// Controllers are tried in this order.
	Controllers []string
	Token       string
	// Name is the host's, as the token says.
	Name string
	// Address is where its agent listens, host:port.
	Address string
	BootID  string
	API     uint32
	// Dir is where the certificate is kept.
	Dir string
}

// Join makes a key, has it certified by the first controller that answers, and keeps the certificate in the request's
// directory. The controller is recognised by the CA that the token pins; the token is sent only after that.
func Join(ctx context.Context, request JoinRequest, clock Clock) (*Keeper, *drydockv1.JoinResponse, error) {
	token, err := ParseToken(request.Token)
	if err != nil {
		return nil, nil, err
	}
	csr, key, err := NewRequest(Identity{Kind: Host, Name: request.Name})
	if err != nil {
		return nil, nil, err
	}
	message := &drydockv1.JoinRequest{
		Token: request.Token, Host: request.Name, Address: request.Address,
		CertificateRequest: csr, BootId: request.BootID, Api: request.API,
	}
	response, err := joinAny(ctx, request.Controllers, token, message, clock)
	if err != nil {
		return nil, nil, fmt.Errorf("join host %s: %w", request.Name, err)
	}
	block, _ := pem.Decode(response.GetCa())
	if block == nil || sha256.Sum256(block.Bytes) != token.Pin {
		return nil, nil, fmt.Errorf("join host %s: controller answered with another CA than the token's", request.Name)
	}
	keeper, err := NewKeeper(request.Dir, append(response.GetCertificate(), key...), response.GetCa(), clock)
	if err != nil {
		return nil, nil, fmt.Errorf("join host %s: %w", request.Name, err)
	}
	return keeper, response, nil
}

func joinAny(ctx context.Context, controllers []string, token Token, message *drydockv1.JoinRequest, clock Clock) (
	*drydockv1.JoinResponse, error,
) {
	if len(controllers) == 0 {
		return nil, errors.New("no controller is configured: set `controller` to its URL")
	}
	var failed []string
	for _, controller := range controllers {
		client, base, err := PinnedClient(controller, token, clock)
		if err != nil {
			return nil, err
		}
		response, err := drydockv1connect.NewJoinServiceClient(client, base).Join(ctx, connect.NewRequest(message))
		client.CloseIdleConnections()
		if err == nil {
			return response.Msg, nil
		}
		err = explain(controller, err)
		if !errors.Is(err, ErrNoAnswer) {
			return nil, err
		}
		failed = append(failed, err.Error())
	}
	return nil, fmt.Errorf("%w: %s", ErrNoAnswer, strings.Join(failed, "; "))
}

// PinnedClient trusts controllers whose chain ends in the CA that the token pins.
func PinnedClient(controller string, token Token, clock Clock) (*http.Client, string, error) {
	expect := ExpectKind(Controller)
	config := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"h2"},
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			roots := x509.NewCertPool()
			for _, cert := range state.PeerCertificates {
				if sha256.Sum256(cert.Raw) == token.Pin {
					roots.AddCert(cert)
				}
			}
			id, err := verifyServer(state.PeerCertificates, roots, clock.Now())
			if err != nil {
				return whyNotTrusted(err, clock.Now())
			}
			return expect(id)
		},
	}
	address, err := addressOf(controller)
	if err != nil {
		return nil, "", err
	}
	return tlsClient(config), "https://" + address, nil
}

// RenewWith is how a host's keeper renews: it asks a controller, showing the certificate that is to be replaced.
func RenewWith(controller drydockv1connect.JoinServiceClient) Renew {
	return func(ctx context.Context, request []byte) ([]byte, []byte, error) {
		response, err := controller.Renew(ctx, connect.NewRequest(&drydockv1.RenewRequest{CertificateRequest: request}))
		if err != nil {
			return nil, nil, err
		}
		return response.Msg.GetCertificate(), response.Msg.GetCa(), nil
	}
}
