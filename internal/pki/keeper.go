package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"drydock/internal/durable"
)

// File names in a keeper's directory.
const (
	bundleFile = "identity.pem"
	caFile     = "ca.crt"
)

// renewRetry is how long a keeper waits after a renewal that failed.
const renewRetry = time.Minute

// Keeper holds one certificate, the CA that peers are verified with, and replaces both while TLS configurations made from it
// are in use. It is safe for concurrent use.
type Keeper struct {
	dir     string
	clock   Clock
	current atomic.Pointer[material]
}

// Clock is the time that a keeper goes by.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now is time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// After is time.After.
func (SystemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

type material struct {
	cert     tls.Certificate
	identity Identity
	roots    *x509.CertPool
}

// Renew turns a PEM certificate request into a certificate and the CA's, both PEM.
type Renew func(ctx context.Context, request []byte) (certificate, ca []byte, err error)

// OpenKeeper loads the certificate in dir; errors.Is(err, os.ErrNotExist) where there is none yet.
func OpenKeeper(dir string, clock Clock) (*Keeper, error) {
	bundle, err := os.ReadFile(filepath.Join(dir, bundleFile))
	if err != nil {
		return nil, fmt.Errorf("load the certificate: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, caFile))
	if err != nil {
		return nil, fmt.Errorf("load the CA's certificate: %w", err)
	}
	keeper := &Keeper{dir: dir, clock: clock}
	if err := keeper.use(bundle, ca); err != nil {
		return nil, fmt.Errorf("load the certificate in %s: %w", dir, err)
	}
	return keeper, nil
}

// NewKeeper stores a bundle from CA.Issue in dir and keeps it.
func NewKeeper(dir string, bundle, ca []byte, clock Clock) (*Keeper, error) {
	keeper := &Keeper{dir: dir, clock: clock}
	if err := keeper.replace(bundle, ca); err != nil {
		return nil, err
	}
	return keeper, nil
}

// LoadKeeper loads a certificate from three files, as an operator has them; it is not renewed.
func LoadKeeper(caPath, certPath, keyPath string, clock Clock) (*Keeper, error) {
	var parts [3][]byte
	for i, path := range []string{caPath, certPath, keyPath} {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("load credentials: %w", err)
		}
		parts[i] = data
	}
	keeper := &Keeper{clock: clock}
	if err := keeper.use(append(parts[1], parts[2]...), parts[0]); err != nil {
		return nil, fmt.Errorf("load credentials from %s: %w", certPath, err)
	}
	return keeper, nil
}

// Identity is whom the certificate names.
func (k *Keeper) Identity() Identity { return k.current.Load().identity }

// RenewAt is when two thirds of the certificate's lifetime are over.
func (k *Keeper) RenewAt() time.Time { return renewAt(k.current.Load().cert.Leaf) }

func renewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)
}

// Run renews the certificate whenever it is due, until ctx ends, and then returns nil. A renewal that fails is logged and
// tried again.
func (k *Keeper) Run(ctx context.Context, renew Renew, log *slog.Logger) error {
	for {
		wait := max(k.RenewAt().Sub(k.clock.Now()), 0)
		select {
		case <-ctx.Done():
			return nil
		case <-k.clock.After(wait):
		}
		if err := k.RenewNow(ctx, renew); err != nil {
			log.Error("certificate not renewed, trying again", "identity", k.Identity().String(), "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-k.clock.After(renewRetry):
			}
			continue
		}
		log.Info("certificate renewed", "identity", k.Identity().String(), "until", k.current.Load().cert.Leaf.NotAfter)
	}
}

// RenewNow replaces the key and the certificate. New connections use it at once, those that are open go on.
func (k *Keeper) RenewNow(ctx context.Context, renew Renew) error {
	request, key, err := NewRequest(k.Identity())
	if err != nil {
		return err
	}
	cert, ca, err := renew(ctx, request)
	if err != nil {
		return fmt.Errorf("renew the certificate of %s: %w", k.Identity(), err)
	}
	next, err := newMaterial(append(cert, key...), ca)
	if err != nil {
		return fmt.Errorf("renewed certificate of %s: %w", k.Identity(), err)
	}
	if next.identity != k.Identity() {
		return fmt.Errorf("renewed certificate is for %s, not %s", next.identity, k.Identity())
	}
	return k.replace(append(cert, key...), ca)
}

func (k *Keeper) replace(bundle, ca []byte) error {
	next, err := newMaterial(bundle, ca)
	if err != nil {
		return err
	}
	err = errors.Join(
		durable.Replace(filepath.Join(k.dir, caFile), ca, 0o644),
		durable.Replace(filepath.Join(k.dir, bundleFile), bundle, 0o600),
	)
	if err != nil {
		return err
	}
	k.current.Store(next)
	return nil
}

func (k *Keeper) use(bundle, ca []byte) error {
	next, err := newMaterial(bundle, ca)
	if err != nil {
		return err
	}
	k.current.Store(next)
	return nil
}

func newMaterial(bundle, ca []byte) (*material, error) {
	certs, key, err := parseBundle(bundle)
	if err != nil {
		return nil, err
	}
	identity, err := IdentityOf(certs[0])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the CA's certificate is not PEM")
	}
	chain := tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, cert := range certs {
		chain.Certificate = append(chain.Certificate, cert.Raw)
	}
	// The CA's certificate is shown as well: a host that joins knows no more of it than the pin in its token.
	if block, _ := pem.Decode(ca); block != nil {
		chain.Certificate = append(chain.Certificate, block.Bytes)
	}
	return &material{cert: chain, identity: identity, roots: roots}, nil
}

// TrustedBy says whether the certificate is one that the CA has issued, and peers are verified with that CA.
func (k *Keeper) TrustedBy(ca *CA) bool {
	current := k.current.Load()
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return current.roots.Equal(roots) && current.cert.Leaf.CheckSignatureFrom(ca.cert) == nil
}
