package rules

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"

	"drydock/shim/message"
)

// maxCost bounds a condition's evaluation, in CEL's own units: about one for each step.
const maxCost = 100_000

// condition is a compiled expression of CEL.
type condition struct {
	text      string
	program   cel.Program
	readsBody bool
}

var environment = sync.OnceValues(func() (*cel.Env, error) {
	texts := cel.MapType(cel.StringType, cel.StringType)
	return cel.NewEnv(
		cel.Variable("method", cel.StringType), cel.Variable("path", cel.StringType), cel.Variable("header", texts),
		cel.Variable("query", texts), cel.Variable("vars", texts), cel.Variable("body", cel.DynType),
	)
})

func compileCondition(text string) (*condition, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if ast.OutputType() != cel.BoolType && ast.OutputType() != cel.DynType {
		return nil, fmt.Errorf("the condition is %s, not true or false", ast.OutputType())
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost))
	if err != nil {
		return nil, err
	}
	checked, err := cel.AstToCheckedExpr(ast)
	if err != nil {
		return nil, err
	}
	c := &condition{text: text, program: program}
	for _, reference := range checked.ReferenceMap {
		c.readsBody = c.readsBody || reference.Name == "body"
	}
	return c, nil
}

func (c *condition) holds(s *scope, vars map[string][]string) (bool, error) {
	r := s.request
	names := map[string]string{}
	for name, value := range vars {
		names[name] = strings.Join(value, "/")
	}
	input := map[string]any{
		"method": r.Method, "path": r.Path.String(), "header": firsts(r.Header, strings.ToLower),
		"query": firsts(r.Query, func(s string) string { return s }), "vars": names, "body": nil,
	}
	if c.readsBody {
		root, err := r.Body.Value()
		if err != nil {
			return false, err
		}
		input["body"] = forCEL(root)
	}
	result, _, err := c.program.Eval(input)
	if err != nil {
		return false, message.Untranslatablef("condition %q: %v", c.text, err)
	}
	yes, ok := result.Value().(bool)
	if !ok {
		return false, message.Untranslatablef("condition %q is %v, not true or false", c.text, result.Value())
	}
	return yes, nil
}

func firsts(in map[string][]string, key func(string) string) map[string]string {
	out := make(map[string]string, len(in))
	for name, values := range in {
		if len(values) > 0 {
			out[key(name)] = values[0]
		}
	}
	return out
}

// forCEL has whole numbers as int64 or uint64 where they fit, and all others as float64: conditions only compare.
func forCEL(v *message.Value) any {
	if v == nil {
		return nil
	}
	switch v.Kind() {
	case message.Number:
		return numberForCEL(v)
	case message.Array:
		out := make([]any, len(v.Items()))
		for i, item := range v.Items() {
			out[i] = forCEL(item)
		}
		return out
	case message.Object:
		out := make(map[string]any, len(v.Members()))
		for _, m := range v.Members() {
			out[m.Name] = forCEL(m.Value)
		}
		return out
	default:
		return v.Any()
	}
}

func numberForCEL(v *message.Value) any {
	r, ok := v.Rational()
	if !ok {
		return v.Text() // too large to compare: a comparison with a number is an error, and the call is refused
	}
	if r.IsInt() && r.Num().IsInt64() {
		return r.Num().Int64()
	}
	if r.IsInt() && r.Num().IsUint64() {
		return r.Num().Uint64()
	}
	f, _ := r.Float64()
	return f
}
