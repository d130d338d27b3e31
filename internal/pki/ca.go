package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"slices"
	"time"
)

// Lifetimes of certificates. All but the CA's are renewed by themselves after two thirds of it.
const (
	caLifetime = 20 * 365 * 24 * time.Hour
	// LeafLifetime is how long a certificate holds: a host that was away for longer has to join again.
	LeafLifetime = 90 * 24 * time.Hour
	// backdate covers clocks that are a little behind the CA's.
	backdate = 5 * time.Minute
)

// CA issues certificates. Whoever has its key is the controller of every host that joined.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  func() time.Time
}

// NewCA makes a CA with a fresh ECDSA P-256 key. now is the clock that certificates are dated with.
func NewCA(now func() time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the CA's key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Drydock CA"},
		NotBefore:             now().Add(-backdate),
		NotAfter:              now().Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the CA's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the CA's certificate back: %w", err)
	}
	return &CA{cert: cert, key: key, now: now}, nil
}

// ParseCA reads what Encode wrote.
func ParseCA(bundle []byte, now func() time.Time) (*CA, error) {
	certs, key, err := parseBundle(bundle)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	if !certs[0].IsCA {
		return nil, fmt.Errorf("read the CA: certificate %q is no CA", certs[0].Subject.CommonName)
	}
	return &CA{cert: certs[0], key: key, now: now}, nil
}

// Encode is the CA's certificate and private key as PEM: a secret.
func (ca *CA) Encode() ([]byte, error) { return encodeBundle(ca.cert.Raw, ca.key) }

// Certificate is the CA's certificate as PEM, which everyone may know.
func (ca *CA) Certificate() []byte { return encodeCertificate(ca.cert.Raw) }

// Pin is the SHA-256 of the CA's certificate.
func (ca *CA) Pin() [sha256.Size]byte { return sha256.Sum256(ca.cert.Raw) }

// Issue makes a key and a certificate for id, good as server and client, and returns both as one PEM bundle. addresses are
// the IP addresses or names that it may be reached at.
func (ca *CA) Issue(id Identity, addresses ...string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", id, err)
	}
	der, err := ca.sign(id, key.Public(), addresses)
	if err != nil {
		return nil, err
	}
	return encodeBundle(der, key)
}

// StoreName is the common name of the certificates that the parts of a shared store know each other by. No host, controller or
// user can be called so, and the certificates name no identity: they are good for nothing else.
const StoreName = "drydock store"

// IssueStore makes a key and a certificate for the part of a shared store that is reached at an IP address.
func (ca *CA) IssueStore(address string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for the store: %w", err)
	}
	template, err := ca.template(StoreName)
	if err != nil {
		return nil, err
	}
	template.IPAddresses = []net.IP{net.ParseIP(address)}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for the store: %w", err)
	}
	return encodeBundle(der, key)
}

// HoldsStore says whether the certificate in three files is one of IssueStore for address, and not yet due.
func (ca *CA) HoldsStore(caPath, certPath, keyPath, address string, now time.Time) bool {
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil || pair.Leaf.CheckSignatureFrom(ca.cert) != nil || pair.Leaf.VerifyHostname(address) != nil {
		return false
	}
	known, err := os.ReadFile(caPath)
	return err == nil && bytes.Equal(known, ca.Certificate()) && now.Before(renewAt(pair.Leaf))
}

// Sign makes a certificate for id and the key of a PEM certificate request, of which nothing else is used: who it is for, the
// caller has established.
func (ca *CA) Sign(request []byte, id Identity, addresses ...string) ([]byte, error) {
	block, _ := pem.Decode(request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("certificate request is not PEM of type CERTIFICATE REQUEST")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request is not signed by its own key: %w", err)
	}
	der, err := ca.sign(id, csr.PublicKey, addresses)
	if err != nil {
		return nil, err
	}
	return encodeCertificate(der), nil
}

func (ca *CA) sign(id Identity, public any, addresses []string) ([]byte, error) {
	template, err := ca.template(id.Name)
	if err != nil {
		return nil, err
	}
	template.URIs = []*url.URL{id.URI()}
	if id.Kind == Controller || id.Kind == Host {
		template.DNSNames = []string{id.Name}
	}
	for _, address := range addresses {
		if ip := net.ParseIP(address); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if address != "" && !slices.Contains(template.DNSNames, address) {
			template.DNSNames = append(template.DNSNames, address)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", id, err)
	}
	return der, nil
}

// template is what all certificates have in common but the CA's own.
func (ca *CA) template(name string) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             ca.now().Add(-backdate),
		NotAfter:              ca.now().Add(LeafLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, nil
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return serial, nil
}
