// Package proxy stands in front of a server and lets clients of other versions talk to it: HTTP/1.1 and HTTP/2 without TLS,
// JSON and gRPC.
//
// A connection whose client is known to speak the server's version is spliced: its bytes are not looked at, whatever the
// protocol. Otherwise each call is parsed, translated by a chain, routed, and its answer composed, which are operators of
// a flow.Flow: Reconfigure replaces them together, without a pause, and each call meets one configuration only. A body that no
// rule looks into is sent on as it comes, messages of gRPC streams are translated one by one. A refused call gets
// problem+json, or a gRPC status, and is counted.
//
// Where the record is that of a stream, each connection goes through modules of its own. One that breaks ends its connection.
package proxy
