// Greeter is a server of the second version of a greeting service: HTTP/1.1, HTTP/2 and gRPC on one port. It knows no other version, and
// refuses what is not of its own.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// greeting is what version 2 is asked.
type greeting struct {
	First    string `json:"first"`
	Language string `json:"language"`
}

func greet(w http.ResponseWriter, r *http.Request) {
	var g greeting
	in := json.NewDecoder(r.Body)
	in.DisallowUnknownFields()
	if err := in.Decode(&g); err != nil || g.First == "" || g.Language == "" {
		http.Error(w, "this is not of version 2", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"text": "Hello, " + g.First})
}

// raw hands messages through as bytes.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = append([]byte{}, data...); return nil }
func (raw) Name() string                       { return "proto" }

// echo gives every message of version 2 back.
func echo(_ any, stream grpc.ServerStream) error {
	if name, _ := grpc.MethodFromServerStream(stream); !strings.HasPrefix(name, "/greet.v2.") {
		return status.Error(codes.Unimplemented, "this is not of version 2")
	}
	for {
		var data []byte
		if err := stream.RecvMsg(&data); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&data); err != nil {
			return err
		}
	}
}

func main() {
	calls := grpc.NewServer(grpc.UnknownServiceHandler(echo), grpc.ForceServerCodec(raw{}))
	server := &http.Server{Addr: os.Args[1], Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		greet(w, r)
	})
	log.Fatal(server.ListenAndServe())
}
