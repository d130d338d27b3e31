//go:build wasip1

// Package guest is the inner end of package module's interface, for translators that are written in Go:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o translator.wasm
package guest

import "unsafe"

// Conn is a translator at work for one connection.
type Conn interface {
	// Data is what came from the client's side or the server's. It must not be kept.
	Data(fromServer bool, data []byte)
}

// The host's outcomes of calls.
const (
	Passed uint32 = iota
	Translated
	Disallowed
	Untranslatable
)

// A module has one connection, and the host calls it by functions that have no receiver.
var (
	open   func(down bool) Conn
	conn   Conn
	buffer []byte
)

// Serve says how a connection is begun; call it from an init function.
func Serve(begin func(down bool) Conn) { open = begin }

// ToClient sends bytes to the client's side.
func ToClient(data []byte) { emit(0, unsafe.Pointer(unsafe.SliceData(data)), uint32(len(data))) }

// ToServer sends bytes to the server's side.
func ToServer(data []byte) { emit(1, unsafe.Pointer(unsafe.SliceData(data)), uint32(len(data))) }

// Called tells what became of a call; why is for those that were refused.
func Called(outcome uint32, why string) {
	called(outcome, unsafe.Pointer(unsafe.StringData(why)), uint32(len(why)))
}

//go:wasmimport drydock emit
func emit(to uint32, data unsafe.Pointer, size uint32)

//go:wasmimport drydock called
func called(outcome uint32, why unsafe.Pointer, size uint32)

//go:wasmexport drydock_open
func hostOpen(down uint32) { conn = open(down != 0) }

//go:wasmexport drydock_buffer
func hostBuffer(size uint32) unsafe.Pointer {
	if uint32(cap(buffer)) < size {
		buffer = make([]byte, size)
	}
	return unsafe.Pointer(unsafe.SliceData(buffer[:cap(buffer)]))
}

//go:wasmexport drydock_data
func hostData(from, size uint32) { conn.Data(from != 0, buffer[:size]) }
