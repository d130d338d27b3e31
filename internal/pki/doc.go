// Package pki says who is who among controllers, hosts and operators: a certificate authority made at a controller's first
// start, the certificates that it issues, and the TLS 1.3 configurations, clients and HTTP guards that demand them.
//
// A certificate names its holder in one URI: drydock://controller/NAME, drydock://host/NAME, drydock://user/NAME?role=ROLE or
// drydock://role/admin. Peers are recognised by that and by nothing else: a host's certificate never passes as a controller's, nor
// the reverse.
package pki
