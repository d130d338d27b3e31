package proxy

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"drydock/shim/message"
	"drydock/shim/record"
	"drydock/shim/schema"
	"drydock/shim/schema/schematest"
)

const protoV1 = `
syntax = "proto3";
package shop.v1;
message Order { int64 id = 1; string customer = 2; int64 cents = 3; }
service Orders {
  rpc Put(Order) returns (Order); rpc Chat(stream Order) returns (stream Order); rpc Same(Order) returns (Order); rpc Gone(Order) returns (Order);
}`

const protoV2 = `
syntax = "proto3";
package shop.v2;
message Name { string first = 1; string last = 2; }
message Order { int64 id = 1; Name customer = 4; string euros = 5; }
service Orders { rpc Place(Order) returns (Order); rpc Chat(stream Order) returns (stream Order); rpc Same(Order) returns (Order); }`

// recordForGRPC is about the two versions above.
func recordForGRPC(t *testing.T) *record.Record {
	t.Helper()
	forward := `[{split: {field: customer, by: ' ', into: [customer.first, customer.last]}}, {convert: {field: cents, to: string, times: '0.01'}}, {rename: {from: cents, to: euros}}]`
	back := `[{join: {fields: [customer.first, customer.last], with: ' ', into: customer}}, {convert: {field: euros, to: integer, times: '100'}}, {rename: {from: euros, to: cents}}]`
	order := `{id: '1', customer: Ada King, cents: '1250'}`
	text := `
service: orders
client: {default: v1}
versions: [v1, v2]
pairs:
  - between: [v1, v2]
    up:
      otherwise: refuse
      rules:
        - {name: put, match: {path: /shop.v1.Orders/Put}, to: {path: /shop.v2.Orders/Place}, request: ` + forward + `, reply: ` + back + `}
        - {name: chat, match: {path: /shop.v1.Orders/Chat}, to: {path: /shop.v2.Orders/Chat}, request: ` + forward + `, reply: ` + back + `}
        - {name: same, match: {path: /shop.v1.Orders/Same}, to: {path: /shop.v2.Orders/Same}}
    down: none
    transform: none
    schedule: none
    disallowed: [{version: v1, match: {path: /shop.v1.Orders/Gone}, reason: it went away}]
    examples:
      - name: put
        direction: up
        lossy: down is not used here
        old: {request: {method: POST, path: /shop.v1.Orders/Put, body: ` + order + `}, reply: {status: 200}}
        new: {request: {method: POST, path: /shop.v2.Orders/Place}, reply: {status: 200}}
`
	r, err := record.Parse("grpc.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// raw hands messages through as bytes.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = append([]byte{}, data...); return nil }
func (raw) Name() string                       { return "proto" }

// serveV2 is a server that gives back every order; Eve gets hers with a price that v1 cannot have, and Mallory gets nothing.
func serveV2(t *testing.T, s *schema.Schema) string {
	t.Helper()
	handle := func(_ any, stream grpc.ServerStream) error {
		name, _ := grpc.MethodFromServerStream(stream)
		path, err := message.ParsePath(name)
		if err != nil {
			return err
		}
		method, ok := s.Method(path)
		if !ok {
			return status.Error(codes.Unimplemented, name)
		}
		for {
			var data []byte
			if err := stream.RecvMsg(&data); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			v, err := method.Request.Decode(data)
			if err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			switch {
			case strings.Contains(v.String(), "Eve"):
				v.Set("euros", message.NewString("much"))
			case strings.Contains(v.String(), "Mallory"):
				return status.Error(codes.PermissionDenied, "not you")
			}
			if data, err = method.Reply.Encode(v); err != nil {
				return err
			}
			if err := stream.SendMsg(&data); err != nil {
				return err
			}
		}
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(handle), grpc.ForceServerCodec(raw{}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

// grpcShop is a client of v1 behind a proxy whose server speaks v2.
type grpcShop struct {
	conn   *grpc.ClientConn
	proxy  *Proxy
	client schema.Method
}

func newGRPCShop(t *testing.T) *grpcShop {
	t.Helper()
	schemas := map[string]*schema.Schema{}
	for version, text := range map[string]string{"v1": protoV1, "v2": protoV2} {
		s, err := schema.Parse(schematest.Set(t, text))
		if err != nil {
			t.Fatal(err)
		}
		schemas[version] = s
	}
	r := recordForGRPC(t)
	r.Schemas = schemas
	p, addr := start(t, Settings{Record: r, Server: serveV2(t, schemas["v2"]), Version: "v2", MaxBody: 4096}, "")
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	method, ok := schemas["v1"].Method(message.Path{"shop.v1.Orders", "Put"})
	if !ok {
		t.Fatal("no method")
	}
	return &grpcShop{conn, p, method}
}

func (s *grpcShop) encode(t *testing.T, text string) *[]byte {
	t.Helper()
	v, err := message.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	data, err := s.client.Request.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return &data
}

func (s *grpcShop) decode(t *testing.T, data []byte) string {
	t.Helper()
	v, err := s.client.Reply.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return v.String()
}

const ada = `{"id":"9007199254740993","customer":"Ada King","cents":"9223372036854775807"}`

func TestAGRPCCallIsTranslatedThereAndBack(t *testing.T) {
	s := newGRPCShop(t)
	var got []byte
	if err := s.conn.Invoke(t.Context(), "/shop.v1.Orders/Put", s.encode(t, ada), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ada, s.decode(t, got)); diff != "" {
		t.Error(diff)
	}
}

func TestMessagesOfAGRPCStreamAreTranslatedAsTheyCome(t *testing.T) {
	s := newGRPCShop(t)
	stream, err := s.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/shop.v1.Orders/Chat")
	if err != nil {
		t.Fatal(err)
	}
	for range 50 { // each message waits for the answer to the one before
		if err := stream.SendMsg(s.encode(t, ada)); err != nil {
			t.Fatal(err)
		}
		var got []byte
		if err := stream.RecvMsg(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ada, s.decode(t, got)); diff != "" {
			t.Fatal(diff)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestGRPCRefusalsAreStatuses(t *testing.T) {
	s := newGRPCShop(t)
	for _, test := range []struct {
		name, method, order string
		code                codes.Code
		text                string
	}{
		{"a disallowed call", "Gone", ada, codes.Unimplemented, "it went away"},
		{"a call that no rule fits", "Other", ada, codes.InvalidArgument, "no rule fits"},
		{"a message that does not fit", "Put", `{"customer":"Ada"}`, codes.InvalidArgument, "2 are needed"},
		{"an answer that does not fit", "Put", `{"customer":"Eve X"}`, codes.Internal, "the call was carried out"},
		{"a message that is too large", "Put", `{"customer":"` + strings.Repeat("x ", 3000) + `"}`, codes.ResourceExhausted, "4096"},
		{"the server's own refusal", "Put", `{"customer":"Mallory X"}`, codes.PermissionDenied, "not you"},
	} {
		err := s.conn.Invoke(t.Context(), "/shop.v1.Orders/"+test.method, s.encode(t, test.order), new([]byte))
		if got := status.Convert(err); got.Code() != test.code || !strings.Contains(got.Message(), test.text) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	counts := s.proxy.Counts()
	if len(counts) != 1 || counts[0].Disallowed != 1 || counts[0].Untranslatable != 4 {
		t.Errorf("counted %+v", counts)
	}
}

func TestGRPCMessagesThatNoRuleChangesPassUnread(t *testing.T) {
	s := newGRPCShop(t)
	// Field 1 means the same in both versions.
	sent := []byte{0x08, 0x05}
	var got []byte
	if err := s.conn.Invoke(t.Context(), "/shop.v1.Orders/Same", &sent, &got); err != nil || string(got) != string(sent) {
		t.Errorf("%x came back, %v", got, err)
	}
}
