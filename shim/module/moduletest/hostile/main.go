//go:build wasip1

// A module that does what it is told by the first byte of its data, and that is mostly bad.
package main

import (
	"time"

	"drydock/shim/module/guest"
)

func init() { guest.Serve(func(bool) guest.Conn { return conn{} }) }

func main() {}

type conn struct{}

// hoard keeps memory from the collector.
var hoard [][]byte

// Data misbehaves.
func (conn) Data(fromServer bool, data []byte) {
	if fromServer {
		guest.ToClient(data)
		return
	}
	switch data[0] {
	case 'l':
		for i := 0; ; i++ {
			hoard = hoard[:0]
		}
	case 'm':
		for {
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = byte(i)
			}
			hoard = append(hoard, block)
		}
	case 'o':
		for {
			guest.ToClient(make([]byte, 1<<20))
		}
	case 'c':
		for {
			guest.Called(guest.Passed, "")
		}
	case 'k':
		guest.Called(99, "")
	case 'p':
		panic("on purpose")
	case 'r':
		recurse(0)
	case 's':
		time.Sleep(time.Hour)
	default:
		guest.Called(guest.Passed, "")
		guest.ToServer(data)
	}
}

func recurse(n int) int { return recurse(n+1) + recurse(n+2) }
