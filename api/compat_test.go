package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/internal/version"
)

// What a version of the API says is kept in testdata/apiN, every message of it with every field set, binary and as JSON.
// `go test ./api -record` writes what the present version says; what an earlier one said is never written again.
var record = flag.Bool("record", false, "record the messages of the present version of the API")

// stored are the records that controllers keep, and what crosses only inside of something else.
var stored = []proto.Message{
	&drydockv1.HostRecord{}, &drydockv1.HostReport{}, &drydockv1.PodRecord{}, &drydockv1.ImageRecord{}, &drydockv1.MigrationRecord{},
	&drydockv1.TokenRecord{}, &drydockv1.NetworkRecord{}, &drydockv1.LinkRecord{}, &drydockv1.MigrationSpec{}, &drydockv1.MigrationReport{}, &drydockv1.PodSpec{}, &drydockv1.OwnerRecord{},
	&drydockv1.RolloutRecord{}, &drydockv1.RolloutHost{}, &drydockv1.PlanRound{}, &drydockv1.PoolRecord{},
	&drydockv1.ServiceRecord{}, &drydockv1.Upgrade{},
	&drydockv1.Refusal{}, &drydockv1.HostStatus{}, &drydockv1.User{}, &drydockv1.Event{},
}

// crossing are all messages that one process of Drydock sends to another or keeps for a later one.
func crossing() map[protoreflect.FullName]protoreflect.MessageType {
	all := make(map[protoreflect.FullName]protoreflect.MessageType)
	add := func(d protoreflect.MessageDescriptor) {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
		if err == nil {
			all[d.FullName()] = kind
		}
	}
	protoregistry.GlobalFiles.RangeFilesByPackage("drydock.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				add(methods.Get(j).Input())
				add(methods.Get(j).Output())
			}
		}
		return true
	})
	for _, m := range stored {
		add(m.ProtoReflect().Descriptor())
	}
	return all
}

// fill sets every field, to a value that tells where it belongs. Of a oneof the last field stays.
func fill(m protoreflect.Message, depth int) {
	switch v := m.Interface().(type) {
	case *durationpb.Duration:
		v.Seconds, v.Nanos = 3, 500_000_000
		return
	case *timestamppb.Timestamp:
		v.Seconds, v.Nanos = 1_700_000_000, 250_000_000
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case depth == 0 && (f.Message() != nil):
		case f.IsMap():
			value := m.NewField(f)
			value.Map().Set(protoreflect.ValueOfString("key").MapKey(), element(f.MapValue(), value.Map().NewValue, depth))
			m.Set(f, value)
		case f.IsList():
			value := m.NewField(f)
			value.List().Append(element(f, value.List().NewElement, depth))
			m.Set(f, value)
		default:
			m.Set(f, element(f, func() protoreflect.Value { return m.NewField(f) }, depth))
		}
	}
}

func element(f protoreflect.FieldDescriptor, empty func() protoreflect.Value, depth int) protoreflect.Value {
	number := int32(f.Number()) + 100
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("some " + f.TextName())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("bytes of " + f.TextName()))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(f.Enum().Values().Get(f.Enum().Values().Len() - 1).Number())
	case protoreflect.MessageKind:
		value := empty()
		fill(value.Message(), depth-1)
		return value
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(number)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(number) << 33)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(number) << 33)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(number) / 4)
	}
	return protoreflect.ValueOfFloat64(float64(number) / 4)
}

// deep is how far messages within messages are filled.
const deep = 6

func dir(api int) string { return filepath.Join("testdata", fmt.Sprintf("api%d", api)) }

func TestRecordTheMessagesOfThePresentVersion(t *testing.T) {
	if !*record {
		// What follows reads what an earlier run has recorded; there is one for the present version.
		if _, err := os.Stat(dir(version.API)); err != nil {
			t.Fatalf("%v: run `go test ./api -record`", err)
		}
		return
	}
	if err := os.MkdirAll(dir(version.API), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, kind := range crossing() {
		m := kind.New()
		fill(m, deep)
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.Interface())
		if err != nil {
			t.Fatal(err)
		}
		text, err := protojson.Marshal(m.Interface())
		if err != nil {
			t.Fatal(err)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, text, "", " "); err != nil {
			t.Fatal(err)
		}
		pretty.WriteByte('\n')
		path := filepath.Join(dir(version.API), string(name.Name()))
		if err := os.WriteFile(path+".binpb", wire, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".json", pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, "build", "-o", filepath.Join("api", dir(version.API), "descriptors.binpb"))
}

// recorded are the messages that a version has left, by name.
func recorded(t *testing.T, api int) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir(api), "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("nothing is recorded of API %d (%v): run `go test ./api -record`", api, err)
	}
	for i, path := range paths {
		paths[i] = strings.TrimSuffix(path, ".json")
	}
	return paths
}

func load(t *testing.T, path string) (m proto.Message, wire, text []byte) {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("drydock.v1." + filepath.Base(path)))
	if err != nil {
		t.Fatalf("%s is known no more: %v", path, err)
	}
	wire, err = os.ReadFile(path + ".binpb")
	if err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(path + ".json"); err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface(), wire, text
}

func TestWhatAnEarlierVersionSaidIsReadWithTheSameMeaning(t *testing.T) {
	for api := 1; api <= version.API; api++ {
		for _, path := range recorded(t, api) {
			t.Run(path, func(t *testing.T) {
				m, wire, text := load(t, path)
				if err := proto.Unmarshal(wire, m); err != nil {
					t.Fatal(err)
				}
				again, err := protojson.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				var want, got any
				if err := json.Unmarshal(text, &want); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(again, &got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("binary (-recorded +now):\n%s", diff)
				}
				fromText := m.ProtoReflect().New().Interface()
				if err := protojson.Unmarshal(text, fromText); err != nil {
					t.Fatalf("JSON: %v", err)
				}
				if !proto.Equal(m, fromText) {
					t.Errorf("JSON and binary mean different things: %v, %v", fromText, m)
				}
			})
		}
	}
}

func TestEveryMessageThatCrossesIsRecorded(t *testing.T) {
	have := make(map[string]bool)
	for _, path := range recorded(t, version.API) {
		have[filepath.Base(path)] = true
	}
	for name := range crossing() {
		if !have[string(name.Name())] {
			t.Errorf("%s is not recorded: run `go test ./api -record`", name)
		}
	}
}

func TestFieldsOfANewerVersionAreKeptAndDoNotDisturb(t *testing.T) {
	for _, path := range recorded(t, version.API) {
		m, wire, _ := load(t, path)
		newer := protowire.AppendString(protowire.AppendTag(bytes.Clone(wire), 15_000, protowire.BytesType), "from a newer version")
		if err := proto.Unmarshal(newer, m); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		again, err := proto.Marshal(m)
		if err != nil || !bytes.Contains(again, []byte("from a newer version")) {
			t.Errorf("%s loses what it does not know (%v)", path, err)
		}
		plain := m.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(wire, plain); err != nil {
			t.Fatal(err)
		}
		m.ProtoReflect().SetUnknown(nil)
		if !proto.Equal(m, plain) {
			t.Errorf("%s means something else beside a field that is not known", path)
		}
	}
}

func TestTheDefinitionsBreakNoEarlierVersion(t *testing.T) {
	for api := 1; api <= version.API; api++ {
		tool(t, "breaking", "--against", filepath.Join("api", dir(api), "descriptors.binpb"))
	}
}

// tool runs buf in the project's root, whose buf.yaml says what breaks: the rules of WIRE_JSON.
func tool(t *testing.T, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"tool", "buf"}, args...)...)
	command.Dir = ".."
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("buf %s: %v\n%s", args[0], err, out)
	}
}
