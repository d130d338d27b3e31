// Package transfer carries the bytes of a migration from one host to the other, over connections that the caller has
// encrypted and authenticated: CRIU's images, from memory to memory and while CRIU still writes them, on several
// connections at once; and passes over directory trees, each answered by what came of it.
package transfer
