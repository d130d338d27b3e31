package message

import (
	"math/big"
	"strconv"
	"strings"
)

// Numbers are calculated with only where they are not absurd: a few bytes as 1e999999999 would fill the memory.
const (
	maxDigits   = 400
	maxExponent = 400
)

// Rational is the exact value of a number; false where it is no number, or has more digits or a larger exponent than 400.
func (v *Value) Rational() (*big.Rat, bool) {
	if v.kind != Number {
		return nil, false
	}
	return ParseRational(v.text)
}

// ParseRational reads the digits of a number of JSON.
func ParseRational(digits string) (*big.Rat, bool) {
	if len(digits) > maxDigits || !isNumber(digits) {
		return nil, false
	}
	if i := strings.IndexAny(digits, "eE"); i >= 0 {
		exponent, err := strconv.Atoi(digits[i+1:])
		if err != nil || exponent > maxExponent || exponent < -maxExponent {
			return nil, false
		}
	}
	return new(big.Rat).SetString(digits)
}

// NewRational is a number with all its digits; false where they have no end, as those of 1/3, or are more than 400: it could
// not be calculated with again.
func NewRational(r *big.Rat) (*Value, bool) {
	places, exact := r.FloatPrec()
	if !exact {
		return nil, false
	}
	text := r.FloatString(places)
	return &Value{kind: Number, text: text}, len(text) <= maxDigits
}

// isNumber is the grammar of RFC 8259, section 6.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole := leadingDigits(s)
	if whole == 0 || whole > 1 && s[0] == '0' {
		return false
	}
	s = s[whole:]
	if rest, ok := strings.CutPrefix(s, "."); ok {
		n := leadingDigits(rest)
		if n == 0 {
			return false
		}
		s = rest[n:]
	}
	if s == "" {
		return true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return false
	}
	s = s[1:]
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	return s != "" && leadingDigits(s) == len(s)
}

func leadingDigits(s string) int {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return i
		}
	}
	return len(s)
}
