// Package message holds calls the way translators see them: a request and a response with method, path, query, header and a
// body of named values, whether they came as JSON over HTTP or as protobuf over gRPC.
//
// Nothing is lost by reading and writing: numbers keep their digits and objects the order of their members. A body that
// no translator looks at is never parsed, and is written as it came.
package message
