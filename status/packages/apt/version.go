package apt

import (
	"cmp"
	"strings"
)

// Compare orders two versions as dpkg does (deb-version(7)): negative where a is the older.
func Compare(a, b string) int {
	ea, ua, ra := splitVersion(a)
	eb, ub, rb := splitVersion(b)
	return cmp.Or(compareNumbers(ea, eb), compareParts(ua, ub), compareParts(ra, rb))
}

func splitVersion(v string) (epoch, upstream, revision string) {
	if e, rest, found := strings.Cut(v, ":"); found {
		epoch, v = e, rest
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return epoch, v[:i], v[i+1:]
	}
	return epoch, v, ""
}

// compareParts goes through both in turns: what is not a digit by the order of characters, then a number.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		na, nb := leading(a, false), leading(b, false)
		for i := range max(len(na), len(nb)) {
			if c := cmp.Compare(weight(na, i), weight(nb, i)); c != 0 {
				return c
			}
		}
		a, b = a[len(na):], b[len(nb):]
		na, nb = leading(a, true), leading(b, true)
		if c := compareNumbers(na, nb); c != 0 {
			return c
		}
		a, b = a[len(na):], b[len(nb):]
	}
	return 0
}

// leading is the longest beginning of s that is, or is not, made of digits.
func leading(s string, digits bool) string {
	for i := range len(s) {
		if isDigit(s[i]) != digits {
			return s[:i]
		}
	}
	return s
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// weight of a character: a tilde comes before the end, letters before all others.
func weight(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case s[i] >= 'A' && s[i] <= 'Z', s[i] >= 'a' && s[i] <= 'z':
		return int(s[i])
	}
	return int(s[i]) + 256
}

func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}
