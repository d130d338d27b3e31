package message

import (
	"slices"
)

// Kind says what a Value is.
type Kind uint8

// The kinds of JSON.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

func (k Kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a text", "a list", "an object"}[k]
}

// Value is a JSON value. It is a tree: a Value belongs to one parent, and is changed in place.
type Value struct {
	kind Kind
	// text is a number's digits as they came, a string's characters, or true and false.
	text    string
	items   []*Value
	members []Member
}

// Member is a named value of an object.
type Member struct {
	Name  string
	Value *Value
}

// NewNull is null.
func NewNull() *Value { return &Value{} }

// NewBool is true or false.
func NewBool(b bool) *Value {
	if b {
		return &Value{kind: Bool, text: "true"}
	}
	return &Value{kind: Bool, text: "false"}
}

// NewString is a text.
func NewString(s string) *Value { return &Value{kind: String, text: s} }

// NewNumber is a number of JSON with these digits; false where they are none.
func NewNumber(digits string) (*Value, bool) {
	if !isNumber(digits) {
		return nil, false
	}
	return &Value{kind: Number, text: digits}, true
}

// NewObject is an object with members in this order. Their names must differ.
func NewObject(members ...Member) *Value { return &Value{kind: Object, members: members} }

// Kind is what the value is.
func (v *Value) Kind() Kind { return v.kind }

// Text is a string's characters, a number's digits, true or false; empty for anything else.
func (v *Value) Text() string { return v.text }

// Items are a list's.
func (v *Value) Items() []*Value { return v.items }

// Members are an object's, in their order.
func (v *Value) Members() []Member { return v.members }

// Get is an object's member, or nil.
func (v *Value) Get(name string) *Value {
	if i := v.index(name); i >= 0 {
		return v.members[i].Value
	}
	return nil
}

// Set replaces an object's member where it stands, or adds it at the end.
func (v *Value) Set(name string, to *Value) {
	if i := v.index(name); i >= 0 {
		v.members[i].Value = to
		return
	}
	v.members = append(v.members, Member{Name: name, Value: to})
}

// Rename gives a member another name, and leaves it where it stands. There must be none of that name.
func (v *Value) Rename(from, to string) {
	if i := v.index(from); i >= 0 {
		v.members[i].Name = to
	}
}

// Remove takes a member out of an object; nil where there was none.
func (v *Value) Remove(name string) *Value {
	i := v.index(name)
	if i < 0 {
		return nil
	}
	removed := v.members[i].Value
	v.members = slices.Delete(v.members, i, i+1)
	return removed
}

// Become makes the value another one, for whoever holds it.
func (v *Value) Become(other *Value) { *v = *other }

// Clone is a copy that shares nothing.
func (v *Value) Clone() *Value {
	if v == nil {
		return nil
	}
	out := &Value{kind: v.kind, text: v.text}
	for _, item := range v.items {
		out.items = append(out.items, item.Clone())
	}
	for _, m := range v.members {
		out.members = append(out.members, Member{m.Name, m.Value.Clone()})
	}
	return out
}

func (v *Value) index(name string) int {
	for i := range v.members {
		if v.members[i].Name == name {
			return i
		}
	}
	return -1
}
