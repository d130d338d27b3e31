package pki

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Kind is what the holder of a certificate is.
type Kind string

// The kinds that certificates are issued for.
const (
	Controller Kind = "controller"
	Host       Kind = "host"
	// Role is whoever holds the credentials that a controller makes for itself, and User one whom an admin has added.
	Role Kind = "role"
	User Kind = "user"
)

// Local is a process on the controller's machine, named by its uid. There are no certificates for it.
const Local Kind = "uid"

const scheme = "drydock"

// Identity is who a verified peer is.
type Identity struct {
	Kind Kind
	Name string
	// Rights are a user's.
	Rights Rights
}

// Admin is the identity of an operator with all rights.
func Admin() Identity { return Identity{Kind: Role, Name: "admin"} }

// URI is the identity as a certificate's subject alternative name.
func (id Identity) URI() *url.URL {
	uri := &url.URL{Scheme: scheme, Host: string(id.Kind), Path: "/" + id.Name}
	if id.Kind == User {
		uri.RawQuery = url.Values{"role": {id.Rights.String()}}.Encode()
	}
	return uri
}

func (id Identity) String() string { return string(id.Kind) + " " + id.Name }

// Holds are the rights that an operator has, and NoRights for hosts and controllers.
func (id Identity) Holds() Rights {
	switch id.Kind {
	case User:
		return id.Rights
	case Local:
		return AdminRights
	case Role:
		if id == Admin() {
			return AdminRights
		}
	}
	return NoRights
}

// IdentityOf reads the identity from a certificate that was verified before. It fails where the certificate names none, or more
// than one.
func IdentityOf(cert *x509.Certificate) (Identity, error) {
	var found []Identity
	for _, uri := range cert.URIs {
		if uri.Scheme != scheme {
			continue
		}
		id, err := parseURI(uri, Controller, Host, Role, User)
		if err != nil {
			return Identity{}, fmt.Errorf("certificate %q %w", cert.Subject.CommonName, err)
		}
		found = append(found, id)
	}
	if len(found) != 1 {
		return Identity{}, fmt.Errorf("certificate %q names %d drydock identities instead of one", cert.Subject.CommonName, len(found))
	}
	return found[0], nil
}

func parseURI(uri *url.URL, kinds ...Kind) (Identity, error) {
	id := Identity{Kind: Kind(uri.Host), Name: strings.TrimPrefix(uri.Path, "/")}
	if uri.Scheme != scheme || !slices.Contains(kinds, id.Kind) {
		return Identity{}, fmt.Errorf("names the unknown kind %q", uri.Host)
	}
	if id.Name == "" || strings.Contains(id.Name, "/") {
		return Identity{}, fmt.Errorf("has a malformed name %q", uri)
	}
	if id.Kind != User {
		return id, nil
	}
	var err error
	if id.Rights, err = ParseRole(uri.Query().Get("role")); err != nil {
		return Identity{}, fmt.Errorf("names a user: %w", err)
	}
	return id, nil
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
