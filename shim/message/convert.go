package message

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Any is the value for gojq: numbers as json.Number, which keeps their digits.
func (v *Value) Any() any {
	switch v.kind {
	case Null:
		return nil
	case Bool:
		return v.text == "true"
	case Number:
		return json.Number(v.text)
	case String:
		return v.text
	case Array:
		out := make([]any, len(v.items))
		for i, item := range v.items {
			out[i] = item.Any()
		}
		return out
	}
	out := make(map[string]any, len(v.members))
	for _, m := range v.members {
		out[m.Name] = m.Value.Any()
	}
	return out
}

// FromAny is a Value of what gojq made. A map has no order: members that like has at the same place keep its order, others
// follow by name. like may be nil.
func FromAny(in any, like *Value) (*Value, error) {
	switch in := in.(type) {
	case nil:
		return NewNull(), nil
	case bool:
		return NewBool(in), nil
	case string:
		return NewString(in), nil
	case json.Number:
		return number(in.String())
	case int:
		return number(strconv.Itoa(in))
	case *big.Int:
		return number(in.String())
	case float64:
		return number(strconv.FormatFloat(in, 'g', -1, 64))
	case []any:
		out := &Value{kind: Array}
		for i, item := range in {
			var itemLike *Value
			if like != nil && i < len(like.items) {
				itemLike = like.items[i]
			}
			v, err := FromAny(item, itemLike)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, v)
		}
		return out, nil
	case map[string]any:
		return fromMap(in, like)
	default:
		return nil, fmt.Errorf("%T is no value of JSON", in)
	}
}

func fromMap(in map[string]any, like *Value) (*Value, error) {
	out := &Value{kind: Object}
	names := make([]string, 0, len(in))
	if like != nil {
		for _, m := range like.members {
			if _, ok := in[m.Name]; ok {
				names = append(names, m.Name)
			}
		}
	}
	known := len(names)
	for name := range in {
		if like == nil || like.Get(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names[known:])
	for i, name := range names {
		var memberLike *Value
		if i < known {
			memberLike = like.Get(name)
		}
		v, err := FromAny(in[name], memberLike)
		if err != nil {
			return nil, err
		}
		out.members = append(out.members, Member{name, v})
	}
	return out, nil
}

func number(digits string) (*Value, error) {
	v, ok := NewNumber(digits)
	if !ok {
		return nil, fmt.Errorf("%s is no number of JSON", digits)
	}
	return v, nil
}

// FromYAML is a Value of what stands in a YAML file; nil of nothing. Numbers keep their digits, and must be written as in JSON.
func FromYAML(node *yaml.Node) (*Value, error) {
	switch node.Kind {
	case 0:
		return nil, nil
	case yaml.SequenceNode:
		out := &Value{kind: Array}
		for _, item := range node.Content {
			v, err := FromYAML(item)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, v)
		}
		return out, nil
	case yaml.MappingNode:
		out := &Value{kind: Object}
		for i := 0; i+1 < len(node.Content); i += 2 {
			v, err := FromYAML(node.Content[i+1])
			if err != nil {
				return nil, err
			}
			out.members = append(out.members, Member{node.Content[i].Value, v})
		}
		return out, nil
	}
	switch node.ShortTag() {
	case "!!null":
		return NewNull(), nil
	case "!!bool":
		return NewBool(node.Value == "true" || node.Value == "True" || node.Value == "TRUE"), nil
	case "!!int", "!!float":
		return number(node.Value)
	default:
		return NewString(node.Value), nil
	}
}
