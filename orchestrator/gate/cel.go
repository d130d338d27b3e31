package gate

import (
	"context"
	"fmt"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"

	drydockv1 "drydock/api/drydock/v1"
)

// Predicate is a compiled expression over `host` (drydock.v1.Host) and `pods` (a list of drydock.v1.Pod).
type Predicate struct {
	source  string
	program cel.Program
}

// ExpressionError says where in an expression a fault lies.
type ExpressionError struct {
	// Line and Column count from 1 within the expression.
	Line, Column int
	Message      string
}

func (e *ExpressionError) Error() string {
	return fmt.Sprintf("expression, line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// costLimit keeps one expression from taking a controller's time; a comparison costs about 1.
const costLimit = 200_000

// CompileCEL checks an expression against the types of its variables: fields that do not exist, comparisons of unlike types
// and results that are no bool are found here and not in the middle of a rollout. The error is an *ExpressionError.
func CompileCEL(source string) (*Predicate, error) {
	env, err := cel.NewEnv(
		cel.Types(&drydockv1.Host{}, &drydockv1.Pod{}),
		cel.Container("drydock.v1"),
		cel.Variable("host", cel.ObjectType("drydock.v1.Host")),
		cel.Variable("pods", cel.ListType(cel.ObjectType("drydock.v1.Pod"))),
		ext.Strings(),
	)
	if err != nil {
		return nil, fmt.Errorf("make the environment of expressions: %w", err)
	}
	ast, issues := env.Compile(source)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, &ExpressionError{Line: first.Location.Line(), Column: first.Location.Column() + 1, Message: first.Message}
	}
	if ast.OutputType() != cel.BoolType {
		return nil, &ExpressionError{Line: 1, Column: 1, Message: fmt.Sprintf("it gives %s, and a gate needs a bool", ast.OutputType())}
	}
	program, err := env.Program(ast, cel.CostLimit(costLimit), cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, fmt.Errorf("compile %q: %w", source, err)
	}
	return &Predicate{source: source, program: program}, nil
}

func (p *Predicate) ask(ctx context.Context, s Subject) (Verdict, error) {
	host, pods := s.Host, s.Pods
	if host == nil {
		return Verdict{}, fmt.Errorf("%s: the host's status is not known", p.source)
	}
	if pods == nil {
		pods = []*drydockv1.Pod{}
	}
	value, _, err := p.program.ContextEval(ctx, map[string]any{"host": host, "pods": pods})
	if err != nil {
		return Verdict{}, fmt.Errorf("%s: %w", p.source, err)
	}
	if green, ok := value.Value().(bool); !ok || !green {
		return Verdict{Why: fmt.Sprintf("%s is false for host %s", p.source, host.GetName())}, nil
	}
	return Verdict{Green: true, Why: fmt.Sprintf("%s holds for host %s", p.source, host.GetName())}, nil
}
