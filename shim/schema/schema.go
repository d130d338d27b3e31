// Package schema reads and writes the messages of gRPC by a version's descriptors (FileDescriptorSet), without generated code.
//
// A message becomes a message.Value as protobuf's JSON mapping has it, with the names of the .proto file: 64-bit integers are
// texts, bytes are base64, enums are names, and fields without presence are there also where they are zero, so that a rule
// that maps a value sees it. What the descriptors do not know - a field on the wire, a name in a Value - is an error: it
// would be lost.
package schema

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"drydock/shim/message"
)

// Schema is the gRPC services of one version.
type Schema struct {
	methods map[string]Method
}

// Method is how the messages of a method are read and written.
type Method struct {
	Request, Reply message.Codec
}

// Parse reads a FileDescriptorSet that has all its imports, as `buf build -o FILE` and `protoc --include_imports
// --descriptor_set_out FILE` write it.
func Parse(data []byte) (*Schema, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("no descriptor set: %w", err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("descriptor set: %w", err)
	}
	s := &Schema{methods: map[string]Method{}}
	types := dynamicpb.NewTypes(files)
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			s.add(file.Services().Get(i), types)
		}
		return true
	})
	if len(s.methods) == 0 {
		return nil, errors.New("descriptor set: it has no service")
	}
	return s, nil
}

func (s *Schema) add(service protoreflect.ServiceDescriptor, types *dynamicpb.Types) {
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		path := message.Path{string(service.FullName()), string(m.Name())}
		s.methods[path.String()] = Method{codec{m.Input(), types}, codec{m.Output(), types}}
	}
}

// Method is that of a path /package.Service/Method.
func (s *Schema) Method(path message.Path) (Method, bool) {
	m, ok := s.methods[path.String()]
	return m, ok
}

// codec is that of one type of message.
type codec struct {
	of    protoreflect.MessageDescriptor
	types *dynamicpb.Types
}

// Decode reads a message in protobuf's wire format.
func (c codec) Decode(data []byte) (*message.Value, error) {
	m := dynamicpb.NewMessage(c.of)
	if err := (proto.UnmarshalOptions{Resolver: c.types}).Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("no %s: %w", c.of.FullName(), err)
	}
	if err := known(m); err != nil {
		return nil, err
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true, Resolver: c.types}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%s as JSON: %w", c.of.FullName(), err)
	}
	return message.ParseJSON(text)
}

// Encode writes a message in protobuf's wire format.
func (c codec) Encode(v *message.Value) ([]byte, error) {
	if v == nil {
		v = message.NewObject()
	}
	m := dynamicpb.NewMessage(c.of)
	if err := (protojson.UnmarshalOptions{Resolver: c.types}).Unmarshal(v.AppendJSON(nil), m); err != nil {
		return nil, fmt.Errorf("no %s: %w", c.of.FullName(), err)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// known finds fields that are on the wire and not in the descriptors, at any depth.
func known(m protoreflect.Message) error {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		return fmt.Errorf("%s has a field on the wire that its descriptor does not know", m.Descriptor().FullName())
	}
	var err error
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, one protoreflect.Value) bool {
					err = known(one.Message())
					return err == nil
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = known(v.List().Get(i).Message())
			}
		default:
			err = known(v.Message())
		}
		return err == nil
	})
	return err
}
