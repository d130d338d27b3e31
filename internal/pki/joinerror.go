package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"connectrpc.com/connect"
)

// ErrNoAnswer is matched where no controller has answered a host that wants to join: it may try again, with the same token.
var ErrNoAnswer = errors.New("no controller answers")

// untrusted is why a host does not tell a controller its token. Trying again does not help.
type untrusted struct{ reason, remedy string }

func (u *untrusted) Error() string { return u.reason + ": " + u.remedy }

// whyNotTrusted tells a clock that is wrong from a controller that is.
func whyNotTrusted(err error, now time.Time) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return &untrusted{
			fmt.Sprintf("by this host's clock it is %s, and the controller's certificate holds from %s to %s", stamp(now),
				stamp(invalid.Cert.NotBefore), stamp(invalid.Cert.NotAfter)),
			"set the clocks of this host and of the controller, for example with chrony",
		}
	}
	return &untrusted{"controller is not the one that the token is for, as its CA is another",
		"correct `controller` in this host's configuration, or make a token there with `drydock host join`"}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// explain says in one line why a controller did not let a host join, and what would remove that.
func explain(controller string, err error) error {
	var distrust *untrusted
	var answer *connect.Error
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &distrust):
		return fmt.Errorf("controller %s: %w", controller, distrust)
	case errors.As(err, &plain):
		return fmt.Errorf("controller %s: %w", controller, &untrusted{"what listens there does not speak TLS", "correct `controller` in this host's configuration"})
	case errors.As(err, &answer) && connect.IsWireError(err):
		switch answer.Code() {
		case connect.CodePermissionDenied, connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeUnauthenticated,
			connect.CodeUnimplemented:
			return fmt.Errorf("controller %s: %w", controller, answer)
		}
		// Its store may be away.
		return fmt.Errorf("%w: controller %s: %s", ErrNoAnswer, controller, answer.Message())
	}
	return fmt.Errorf("%w: controller %s: %s: see that it runs, and that its port is open for this host", ErrNoAnswer, controller, cause(err))
}

// cause is the innermost reason that a connection was not made, which names the address.
func cause(err error) string {
	var op *net.OpError
	var lookup *net.DNSError
	switch {
	case errors.As(err, &lookup):
		return lookup.Error()
	case errors.As(err, &op):
		return op.Error()
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}
