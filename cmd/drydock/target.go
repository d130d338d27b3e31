package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"drydock/internal/clictx"
)

const (
	dialTimeout      = 5 * time.Second
	pingAfterSilence = 15 * time.Second
	pingTimeout      = 15 * time.Second
	alertTimeout     = time.Second
)

// target is the controller to talk to, and who we are to it.
type target struct {
	clictx.Context
}

// findTarget returns the context that s names, or the current one, with what s overrides.
func findTarget(s settings) (*target, error) {
	path, err := clictx.Path()
	if err != nil {
		return nil, err
	}
	file, err := clictx.Load(path)
	if err != nil {
		return nil, &failure{status: statusMisuse, message: err.Error(), remedies: []string{"correct the file"}}
	}
	t := &target{}
	if s.Context != "" || file.CurrentContext != "" || s.Server == "" {
		t.Context, err = file.Current(s.Context)
	}
	if err != nil {
		return nil, noContext(err, file)
	}
	for _, o := range []struct {
		to   *string
		from string
	}{{&t.Server, s.Server}, {&t.CA, s.CA}, {&t.Cert, s.Cert}, {&t.Key, s.Key}} {
		if o.from != "" {
			*o.to = o.from
		}
	}
	return t, nil
}

func noContext(err error, file *clictx.File) error {
	remedies := []string{"`drydock lab up` makes a lab with a context of its own",
		"or name a controller with --server, --ca, --cert and --key"}
	if len(file.Contexts) > 0 {
		names := make([]string, 0, len(file.Contexts))
		for _, c := range file.Contexts {
			names = append(names, c.Name)
		}
		remedies = append([]string{"use one of " + strings.Join(names, ", ")}, remedies...)
	}
	message, _, _ := strings.Cut(err.Error(), "; ") // what follows is among the remedies
	return &failure{status: statusMisuse, message: message, remedies: remedies}
}

func (t *target) String() string {
	if t.Name == "" {
		return t.Server
	}
	return fmt.Sprintf("%s (context %q)", t.Server, t.Name)
}

// client returns a client that speaks HTTP/2 over TLS 1.3 with a client certificate, also on a unix socket. A unix socket
// for which the context names no credentials at all is spoken to in the clear: its permissions are the guard.
func (t *target) client() (client *http.Client, base string, err error) {
	dial, host, err := t.endpoint()
	if err != nil {
		return nil, "", err
	}
	transport := &http.Transport{
		DialContext:         dial,
		TLSHandshakeTimeout: dialTimeout,
		Protocols:           new(http.Protocols),
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfterSilence, PingTimeout: pingTimeout},
	}
	client = &http.Client{Transport: transport}
	if strings.HasPrefix(t.Server, "unix:") && !t.HasCredentials() {
		transport.Protocols.SetUnencryptedHTTP2(true)
		if others := t.others(); len(others) > 0 {
			transport.DialContext, err = t.dialAnySocket(dial, others)
		}
		return client, "http://" + host, err
	}
	transport.Protocols.SetHTTP2(true)
	if transport.TLSClientConfig, err = t.tlsConfig(); err != nil {
		return nil, "", err
	}
	if others := t.others(); len(others) > 0 {
		if transport.DialTLSContext, err = t.dialAny(transport.TLSClientConfig, dial, others); err != nil {
			return nil, "", err
		}
	}
	return client, "https://" + host, nil
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// endpoint splits the first server into the way there and the host that requests name.
func (t *target) endpoint() (dialFunc, string, error) {
	first, _, _ := strings.Cut(t.Server, ",")
	return endpointOf(first)
}

func endpointOf(server string) (dialFunc, string, error) {
	d := &net.Dialer{Timeout: dialTimeout}
	u, err := url.Parse(server)
	switch {
	case err == nil && u.Scheme == "unix" && u.Host == "" && u.Path != "":
		return func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", u.Path)
		}, "localhost", nil
	case err == nil && u.Scheme == "https" && u.Host != "" && strings.Trim(u.Path, "/") == "":
		return d.DialContext, u.Host, nil
	}
	return nil, "", &failure{
		status:   statusMisuse,
		message:  fmt.Sprintf("server %q: neither unix:///path nor https://host:port", server),
		remedies: []string{"correct --server, DRYDOCK_SERVER or the context"},
	}
}

// tlsConfig trusts controllers that the target's CA certified. They are known by the identity in the certificate rather
// than by a host name, which a socket does not have and an address does not keep.
func (t *target) tlsConfig() (*tls.Config, error) {
	bad := func(what string, err error) error {
		return &failure{
			status:   statusMisuse,
			message:  fmt.Sprintf("%s for %s: %v", what, t, err),
			remedies: []string{"name PEM files with --ca, --cert and --key, or in the context"},
		}
	}
	ca, err := pemOf(t.CA, t.CAData)
	if err != nil {
		return nil, bad("CA", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, bad("CA", errors.New(t.CA+" holds no certificate"))
	}
	chain, err := pemOf(t.Cert, t.CertData)
	if err != nil {
		return nil, bad("client certificate", err)
	}
	key, err := pemOf(t.Key, t.KeyData)
	if err != nil {
		return nil, bad("client certificate", err)
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, bad("client certificate", err)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Certificates:       []tls.Certificate{cert},
		InsecureSkipVerify: true, // verifyController does it, on every connection
		VerifyConnection: func(s tls.ConnectionState) error {
			return verifyController(s.PeerCertificates, roots)
		},
	}, nil
}

// pemOf is what lies at path, or, where there is no path, in the context itself.
func pemOf(path, data string) ([]byte, error) {
	if path == "" && data != "" {
		return []byte(data), nil
	}
	return os.ReadFile(path)
}

// alert connects once more and returns why the controller refuses our certificate, or nothing where it does not. In TLS 1.3
// a server refuses after the client's handshake is over, and whoever writes at once may lose the alert to a broken pipe.
func (t *target) alert() string {
	dial, host, err := t.endpoint()
	if err != nil || !t.HasCredentials() {
		return ""
	}
	config, err := t.tlsConfig()
	if err != nil {
		return ""
	}
	config.NextProtos = []string{"h2"}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	raw, err := dial(ctx, "tcp", host)
	if err != nil {
		return ""
	}
	conn := tls.Client(raw, config)
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(alertTimeout)); err != nil {
		return ""
	}
	_, err = conn.Read(make([]byte, 1))
	var remote *net.OpError
	if errors.As(err, &remote) && remote.Op == "remote error" {
		return remote.Err.Error()
	}
	return ""
}

// errUntrusted is a server that did not prove to be a controller of ours.
type errUntrusted struct{ reason string }

func (e errUntrusted) Error() string { return e.reason }

func verifyController(certs []*x509.Certificate, roots *x509.CertPool) error {
	if len(certs) == 0 {
		return errUntrusted{"it shows no certificate"}
	}
	intermediates := x509.NewCertPool()
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return errUntrusted{err.Error()}
	}
	isController := func(u *url.URL) bool { return u.Scheme == "drydock" && u.Host == "controller" }
	if !slices.ContainsFunc(certs[0].URIs, isController) {
		return errUntrusted{"its certificate is not a controller's"}
	}
	return nil
}
