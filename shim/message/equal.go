package message

import "fmt"

// Difference says where two values differ, or nothing where they mean the same: the order of members does not count, and
// 1.0 is 1.
func Difference(got, want *Value) string { return difference("", got, want) }

func difference(path string, got, want *Value) string {
	at := path
	if at == "" {
		at = "the body"
	}
	switch {
	case got == nil && want == nil:
		return ""
	case got == nil:
		return fmt.Sprintf("%s is missing, expected %s", at, want)
	case want == nil:
		return fmt.Sprintf("%s is %s, expected none", at, got)
	case got.kind != want.kind:
		return fmt.Sprintf("%s is %s, expected %s", at, got, want)
	}
	switch got.kind {
	case Array:
		return differentItems(path, at, got, want)
	case Object:
		return differentMembers(path, got, want)
	case Number:
		a, aOK := got.Rational()
		b, bOK := want.Rational()
		if aOK && bOK && a.Cmp(b) == 0 {
			return ""
		}
	}
	if got.text != want.text {
		return fmt.Sprintf("%s is %s, expected %s", at, got, want)
	}
	return ""
}

func differentItems(path, at string, got, want *Value) string {
	if len(got.items) != len(want.items) {
		return fmt.Sprintf("%s has %d items, expected %d", at, len(got.items), len(want.items))
	}
	for i := range got.items {
		if d := difference(fmt.Sprintf("%s[%d]", path, i), got.items[i], want.items[i]); d != "" {
			return d
		}
	}
	return ""
}

func differentMembers(path string, got, want *Value) string {
	prefix := path
	if prefix != "" {
		prefix += "."
	}
	for _, m := range want.members {
		if d := difference(prefix+m.Name, got.Get(m.Name), m.Value); d != "" {
			return d
		}
	}
	for _, m := range got.members {
		if want.Get(m.Name) == nil {
			return difference(prefix+m.Name, m.Value, nil)
		}
	}
	return ""
}
