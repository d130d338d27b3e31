//go:build wasip1

// The translator of package people as a module; `make translators` builds it.
package main

import (
	"drydock/shim/module/guest"
	"drydock/shim/module/people"
)

func init() {
	guest.Serve(func(down bool) guest.Conn { return conn{people.New(host{}, down)} })
}

func main() {}

type conn struct{ *people.Conn }

// Data goes to the side that it is for.
func (c conn) Data(fromServer bool, data []byte) {
	if fromServer {
		c.FromServer(data)
	} else {
		c.FromClient(data)
	}
}

type host struct{}

func (host) ToClient(data []byte) { guest.ToClient(data) }
func (host) ToServer(data []byte) { guest.ToServer(data) }
func (host) Passed()              { guest.Called(guest.Passed, "") }
func (host) Translated()          { guest.Called(guest.Translated, "") }
func (host) Refused(disallowed bool, why string) {
	if disallowed {
		guest.Called(guest.Disallowed, why)
	} else {
		guest.Called(guest.Untranslatable, why)
	}
}
