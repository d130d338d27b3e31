package shop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// fields are an order's in each version; the service is the same in all.
var fields = map[string]string{
	"v1": "string id = 1; int64 cents = 2;",
	"v2": "string id = 1; int64 amount = 3; string currency = 4;",
	"v3": "string id = 1; int64 amount = 3; string currency = 4; string note = 5;",
}

// api is a version's messages.
type api struct {
	file               protoreflect.FileDescriptor
	order, which, done protoreflect.MessageDescriptor
}

func apiOf(version string) (api, error) {
	source := "syntax = \"proto3\"; package shop; message Order { " + fields[version] + " } message Which { string id = 1; } message Done {} " +
		"service Orders { rpc Put(Order) returns (Done); rpc Get(Which) returns (Order); }"
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"shop.proto": source}),
	}}
	files, err := compiler.Compile(context.Background(), "shop.proto")
	if err != nil {
		return api{}, fmt.Errorf("messages of %s: %w", version, err)
	}
	messages := files[0].Messages()
	return api{files[0], messages.ByName("Order"), messages.ByName("Which"), messages.ByName("Done")}, nil
}

// Files are those that lie beside the record.
func Files() (map[string][]byte, error) {
	all := make(map[string][]byte)
	for _, version := range Versions {
		a, err := apiOf(version)
		if err != nil {
			return nil, err
		}
		set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(a.file)}}
		if all["shop-"+version+".binpb"], err = proto.Marshal(set); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// WriteRecord writes the record, and what lies beside it, into dir, and returns the record's path.
func WriteRecord(dir, record string) (string, error) {
	files, err := Files()
	if err != nil {
		return "", err
	}
	files["shop.yaml"] = []byte(record)
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "shop.yaml"), nil
}

// message is an order as gRPC carries it. Fields that the version does not have are left out.
func (a api) message(id string, o order) *dynamicpb.Message {
	m := dynamicpb.NewMessage(a.order)
	set := func(name protoreflect.Name, value protoreflect.Value) {
		if field := a.order.Fields().ByName(name); field != nil {
			m.Set(field, value)
		}
	}
	set("id", protoreflect.ValueOfString(id))
	set("cents", protoreflect.ValueOfInt64(o.Cents))
	set("amount", protoreflect.ValueOfInt64(o.Amount))
	set("currency", protoreflect.ValueOfString(o.Currency))
	set("note", protoreflect.ValueOfString(o.Note))
	return m
}

// orderOf is what a message carries; unknown says that it has what the version does not know.
func (a api) orderOf(m *dynamicpb.Message) (id string, o order, unknown bool) {
	get := func(name protoreflect.Name) protoreflect.Value {
		if field := a.order.Fields().ByName(name); field != nil {
			return m.Get(field)
		}
		return protoreflect.Value{}
	}
	text := func(name protoreflect.Name) string {
		s, _ := get(name).Interface().(string)
		return s
	}
	number := func(name protoreflect.Name) int64 {
		n, _ := get(name).Interface().(int64)
		return n
	}
	return text("id"), order{Cents: number("cents"), Amount: number("amount"), Currency: text("currency"), Note: text("note")}, len(m.GetUnknown()) > 0
}

// grpc is the version's server.
func (s *store) grpc() (*grpc.Server, error) {
	a, err := apiOf(s.version)
	if err != nil {
		return nil, err
	}
	put := func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		m := dynamicpb.NewMessage(a.order)
		if err := decode(m); err != nil {
			return nil, err
		}
		id, o, unknown := a.orderOf(m)
		if unknown || !o.is(s.version) {
			return nil, status.Errorf(codes.InvalidArgument, "not an order of %s", s.version)
		}
		return dynamicpb.NewMessage(a.done), s.put(id, o)
	}
	get := func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		m := dynamicpb.NewMessage(a.which)
		if err := decode(m); err != nil {
			return nil, err
		}
		id := m.Get(a.which.Fields().ByName("id")).String()
		o, ok := s.get(id)
		if !ok {
			return nil, status.Errorf(codes.NotFound, "there is no order %s", id)
		}
		return a.message(id, o), nil
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "shop.Orders", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Put", Handler: put}, {MethodName: "Get", Handler: get}},
	}, s)
	return server, nil
}
