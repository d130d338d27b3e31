package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// Timeouts of connections: a peer that vanished is noticed by unanswered pings, also while a call waits for it.
const (
	dialTimeout = 5 * time.Second
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

// ServerTLS is the configuration of a server that every client has to show a certificate to, or, where optional is set, may.
func (k *Keeper) ServerTLS(optional bool) *tls.Config {
	auth := tls.RequireAndVerifyClientCert
	if optional {
		auth = tls.VerifyClientCertIfGiven
	}
	base := func() *tls.Config {
		current := k.current.Load()
		return &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{current.cert},
			ClientAuth:   auth,
			ClientCAs:    current.roots,
			NextProtos:   []string{"h2"},
			Time:         k.clock.Now,
		}
	}
	config := base()
	// A configuration for each connection, so that a renewed certificate or CA is used without a restart.
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return base(), nil }
	return config
}

// ClientTLS is the configuration of a client that accepts the peers that expect does.
//
// The peer's chain, its usage and its identity are verified here and not by name: a host keeps its identity when it gets
// another address.
func (k *Keeper) ClientTLS(expect Expect) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &k.current.Load().cert, nil
		},
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			id, err := verifyServer(state.PeerCertificates, k.current.Load().roots, k.clock.Now())
			if err != nil {
				return err
			}
			return expect(id)
		},
	}
}

func verifyServer(certs []*x509.Certificate, roots *x509.CertPool, now time.Time) (Identity, error) {
	if len(certs) == 0 {
		return Identity{}, errors.New("peer shows no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, cert := range certs[1:] {
		intermediates.AddCert(cert)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return Identity{}, fmt.Errorf("verify the peer: %w", err)
	}
	return IdentityOf(certs[0])
}

// Connect makes one connection to target, HOST:PORT or https://HOST:PORT, with a peer that expect accepts.
func Connect(ctx context.Context, target string, keeper *Keeper, expect Expect) (*tls.Conn, error) {
	address, err := addressOf(target)
	if err != nil {
		return nil, err
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, keeper.ClientTLS(expect))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}

// Over returns an HTTP/2 client that has conn and never makes another connection.
func Over(conn *tls.Conn) *http.Client {
	unused := make(chan *tls.Conn, 1)
	unused <- conn
	client := tlsClient(nil)
	client.Transport.(*http.Transport).DialTLSContext = func(context.Context, string, string) (net.Conn, error) {
		select {
		case conn := <-unused:
			return conn, nil
		default:
			return nil, errors.New("the connection has ended")
		}
	}
	return client
}

// Client returns an HTTP/2 client for target, and the base URL to call it with. Targets are https://HOST:PORT, HOST:PORT, or
// unix:///PATH; for the last keeper and expect are not used and may be nil, since the socket's permissions guard it. The
// client sets no time limit on calls: their contexts do.
func Client(target string, keeper *Keeper, expect Expect) (*http.Client, string, error) {
	if path, ok := strings.CutPrefix(target, "unix://"); ok {
		return unixClient(path), "http://localhost", nil
	}
	address, err := addressOf(target)
	if err != nil {
		return nil, "", err
	}
	if keeper == nil || expect == nil {
		return nil, "", fmt.Errorf("no credentials for %s: give a CA, a certificate and a key, or use the controller's unix socket", target)
	}
	return tlsClient(keeper.ClientTLS(expect)), "https://" + address, nil
}

func addressOf(target string) (string, error) {
	address := strings.TrimSuffix(strings.TrimPrefix(target, "https://"), "/")
	if _, _, err := net.SplitHostPort(address); err != nil || strings.Contains(address, "/") {
		return "", fmt.Errorf("%q is no address: give https://HOST:PORT or unix:///PATH", target)
	}
	return address, nil
}

func tlsClient(config *tls.Config) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     config,
		Protocols:           protocols,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}}
}

func unixClient(path string) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Client{Transport: &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}}
}
