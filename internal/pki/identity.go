package pki

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
)

// Kind is what the holder of a certificate is.
type Kind string

// The kinds that certificates are issued for.
const (
	Controller Kind = "controller"
	Host       Kind = "host"
	Role       Kind = "role"
)

const scheme = "drydock"

// Identity is who a verified peer is.
type Identity struct {
	Kind Kind
	Name string
}

// Admin is the identity of an operator with all rights.
func Admin() Identity { return Identity{Kind: Role, Name: "admin"} }

// URI is the identity as a certificate's subject alternative name.
func (id Identity) URI() *url.URL {
	return &url.URL{Scheme: scheme, Host: string(id.Kind), Path: "/" + id.Name}
}

func (id Identity) String() string { return string(id.Kind) + " " + id.Name }

// IdentityOf reads the identity from a certificate that was verified before. It fails where the certificate names none, or more
// than one.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	var found []Identity
	for _, uri := range cert.URIs {
		if uri.Scheme != scheme {
			continue
		}
		id := Identity{Kind: Kind(uri.Host), Name: strings.TrimPrefix(uri.Path, "/")}
		switch id.Kind {
		case Controller, Host, Role:
		default:
			return Identity{}, fmt.Errorf("certificate %q names the unknown kind %q", cert.Subject.CommonName, uri.Host)
		}
		if id.Name == "" || strings.Contains(id.Name, "/") {
			return Identity{}, fmt.Errorf("certificate %q has a malformed name %q", cert.Subject.CommonName, uri)
		}
		found = append(found, id)
	}
	if len(found) != 1 {
		return Identity{}, fmt.Errorf("certificate %q names %d drydock identities instead of one", cert.Subject.CommonName, len(found))
	}
	return found[0], nil
}

// Expect says whether a peer is the one that a client meant to reach.
type Expect func(Identity) error

// ExpectKind accepts any peer of a kind.
func ExpectKind(kind Kind) Expect {
	return func(id Identity) error {
		if id.Kind != kind {
			return fmt.Errorf("peer is %s, not a %s", id, kind)
		}
		return nil
	}
}

// ExpectHost accepts the one host.
func ExpectHost(name string) Expect {
	want := Identity{Kind: Host, Name: name}
	return func(id Identity) error {
		if id != want {
			return fmt.Errorf("peer is %s, not %s", id, want)
		}
		return nil
	}
}
