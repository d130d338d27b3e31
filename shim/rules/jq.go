package rules

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/itchyny/gojq"

	"drydock/shim/message"
)

// maxReshape is how long one jq expression may take for one message.
const maxReshape = 500 * time.Millisecond

// compileJQ makes an op of an expression over the whole body. It sees no environment, no file and no other input.
func compileJQ(text string) (op, error) {
	query, err := gojq.Parse(text)
	if err != nil {
		return op{}, err
	}
	code, err := gojq.Compile(query)
	if err != nil {
		return op{}, err
	}
	return op{name: "jq", touches: body, apply: func(ctx context.Context, s *scope) error {
		if s.root == nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, maxReshape)
		defer cancel()
		results := code.RunWithContext(ctx, s.root.Any())
		first, ok := results.Next()
		if !ok {
			return errors.New("the expression has no result")
		}
		if err, ok := first.(error); ok {
			return err
		}
		if _, more := results.Next(); more {
			return errors.New("the expression has more than one result")
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("it took longer than %v", maxReshape)
		}
		root, err := message.FromAny(first, s.root)
		if err != nil {
			return err
		}
		s.root = root
		return nil
	}}, nil
}
