package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/clictx"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

// theTime is when every test happens.
func theTime() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// pool is a controller on a unix socket with TLS, and an operator's home directory with a context for it.
type pool struct {
	dir        string
	controller *fakeController
	socket     string
	ca         *authority
}

func newPool(t *testing.T) *pool {
	t.Helper()
	home := newHome(t)
	p := &pool{dir: home, controller: &fakeController{}, socket: filepath.Join(home, "controller.sock"), ca: newAuthority(t)}
	p.serve(t, p.socket, p.ca.issue(t, "drydock://controller/c1"))
	p.ca.save(t, home, "operator", p.ca.issue(t, "drydock://role/operator"))
	err := clictx.Set(filepath.Join(home, "drydock", "contexts.yaml"), clictx.Context{
		Name: "test", Server: "unix://" + p.socket,
		CA: filepath.Join(home, "ca.pem"), Cert: filepath.Join(home, "operator.pem"), Key: filepath.Join(home, "operator.key"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newHome makes an empty home directory, short enough for a socket's path, and an environment without settings.
func newHome(t *testing.T) string {
	t.Helper()
	home, err := os.MkdirTemp("", "drydock-cli-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv(clictx.EnvFile, "")
	for _, key := range settingKeys() {
		t.Setenv("DRYDOCK_"+strings.ToUpper(key), "")
	}
	return home
}

func (p *pool) serve(t *testing.T, socket string, cert tls.Certificate) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: p.handler(), ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: p.ca.pool(),
	}}
	go server.ServeTLS(listener, "", "")
	t.Cleanup(func() { server.Close() })
}

// serveClear is serve for a socket whose permissions are the guard.
func (p *pool) serveClear(t *testing.T, socket string) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: p.handler(), ErrorLog: log.New(io.Discard, "", 0), Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
}

func (p *pool) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(drydockv1connect.NewControllerServiceHandler(p.controller))
	mux.Handle(drydockv1connect.NewAccessServiceHandler(p.controller))
	mux.Handle(drydockv1connect.NewClusterServiceHandler(p.controller))
	mux.Handle(drydockv1connect.NewRolloutServiceHandler(fakeRollouts{fakeController: p.controller}))
	mux.Handle(drydockv1connect.NewShimServiceHandler(fakeShims{fakeController: p.controller}))
	mux.Handle(drydockv1connect.NewUpgradeServiceHandler(fakeUpgrades{fakeController: p.controller}))
	return mux
}

// result is what one invocation left.
type result struct {
	status         int
	stdout, stderr string
}

// runAt invokes drydock as run does, at theTime, without patience for controllers that go away.
func runAt(ctx context.Context, stdin io.Reader, args ...string) result {
	return runPatiently(ctx, stdin, 0, args...)
}

func runPatiently(ctx context.Context, stdin io.Reader, patience time.Duration, args ...string) result {
	var stdout, stderr bytes.Buffer
	a := &app{stdin: stdin, stdout: &stdout, stderr: &stderr, now: theTime, patience: patience}
	status := runContext(ctx, a, args)
	return result{status, stdout.String(), stderr.String()}
}

func (p *pool) run(t *testing.T, args ...string) result {
	t.Helper()
	return runAt(t.Context(), strings.NewReader(""), args...)
}

// transcript shows an invocation in a golden file, with the home directory named $HOME.
func (r result) transcript(home string, args []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ drydock %s\n", strings.Join(args, " "))
	for _, part := range []struct{ name, text string }{{"stdout", r.stdout}, {"stderr", r.stderr}} {
		if part.text != "" {
			fmt.Fprintf(&b, "-- %s --\n%s", part.name, part.text)
		}
	}
	fmt.Fprintf(&b, "-- exit status %d --\n", r.status)
	return strings.ReplaceAll(b.String(), home, "$HOME")
}

// authority is a throwaway CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{sign(t, template, template, &key.PublicKey, key), key}
}

func sign(t *testing.T, template, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue makes a certificate for the identity, good as a client's and as a server's.
func (a *authority) issue(t *testing.T, identity string) tls.Certificate {
	t.Helper()
	uri, err := url.Parse(identity)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: uri.Path}, URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// save writes ca.pem, NAME.pem and NAME.key into dir.
func (a *authority) save(t *testing.T, dir, name string, cert tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"ca.pem":      {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		name + ".pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		name + ".key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		write(t, filepath.Join(dir, file), string(pem.EncodeToMemory(block)))
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
