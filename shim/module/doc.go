// Package module runs translators that are WebAssembly modules, for protocols that rules do not know: each turns the bytes of one
// connection into what the neighbour version understands, and the answers back.
//
// A module is not trusted. It gets bytes and gives bytes, and nothing else: no files, no network, no clock that is right, no
// functions of the host but those of its own interface; a module that asks for more is refused when it is loaded. Its memory, its
// time for each piece of data, what it puts out and how many run at once are bounded. One that breaks a bound, or itself, ends
// with an error for its connection only; every connection has an instance of its own.
//
// The interface. The host calls drydock_open(down) once; then, for each piece of data, drydock_buffer(size), which gives the address
// where the host writes it, and drydock_data(from, size). Meanwhile the module calls drydock.emit(to, address, size) for what goes to a
// side, and drydock.called(outcome, address, size) for each call that it has seen, with the reason where it refused it. Sides
// are 0 for the client's and 1 for the server's, outcomes those of package chain. Package guest is the other end, in Go.
package module
