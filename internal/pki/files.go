package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
)

// encodeBundle puts a certificate and its key into one PEM file, so that the two are replaced at once.
func encodeBundle(der []byte, key *ecdsa.PrivateKey) ([]byte, error) {
	private, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return append(encodeCertificate(der), private...), nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseBundle(bundle []byte) ([]*x509.Certificate, *ecdsa.PrivateKey, error) {
	var certs []*x509.Certificate
	var key *ecdsa.PrivateKey
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("parse a certificate: %w", err)
			}
			certs = append(certs, cert)
		case "PRIVATE KEY":
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("parse a key: %w", err)
			}
			ec, ok := parsed.(*ecdsa.PrivateKey)
			if !ok {
				return nil, nil, fmt.Errorf("key is %T, not ECDSA", parsed)
			}
			key = ec
		}
	}
	if len(certs) == 0 || key == nil {
		return nil, nil, errors.New("needs a certificate and its key as PEM")
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, nil, fmt.Errorf("certificate %q does not belong to the key beside it", certs[0].Subject.CommonName)
	}
	return certs, key, nil
}

// NewRequest makes a key and a certificate request for it, both PEM.
func NewRequest(id Identity) (request, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key for %s: %w", id, err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: id.Name}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, private)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate request for %s: %w", id, err)
	}
	key, err = encodeKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), key, nil
}

// SplitBundle takes a bundle of CA.Issue apart.
func SplitBundle(bundle []byte) (certificate, key []byte, err error) {
	certs, private, err := parseBundle(bundle)
	if err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return encodeCertificate(certs[0].Raw), key, err
}
