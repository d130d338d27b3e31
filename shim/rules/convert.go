package rules

import (
	"fmt"
	"math/big"

	"drydock/shim/message"
)

// converted is a value as another kind, where that is exact.
func converted(v *message.Value, to string, times *big.Rat) (*message.Value, error) {
	if k := v.Kind(); k == message.Object || k == message.Array {
		return nil, fmt.Errorf("%s has no other kind", k)
	}
	text := v.Text()
	if times != nil {
		r, ok := message.ParseRational(text)
		if !ok {
			return nil, fmt.Errorf("%s is no number that can be calculated with", v)
		}
		product, ok := message.NewRational(new(big.Rat).Mul(r, times))
		if !ok {
			return nil, fmt.Errorf("%s times %s has no exact value that can be calculated with", v, times.RatString())
		}
		text = product.Text()
	}
	switch to {
	case "string":
		return message.NewString(text), nil
	case "boolean":
		if text == "true" || text == "false" {
			return message.NewBool(text == "true"), nil
		}
		return nil, fmt.Errorf("%s is neither true nor false", v)
	}
	n, ok := message.NewNumber(text)
	if !ok {
		return nil, fmt.Errorf("%s is no number", v)
	}
	if to == "number" {
		return n, nil
	}
	r, ok := n.Rational()
	if !ok || !r.IsInt() {
		return nil, fmt.Errorf("%s is no whole number", n)
	}
	whole, _ := message.NewNumber(r.Num().String())
	return whole, nil
}
