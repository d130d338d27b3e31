package rules

import (
	"fmt"

	"drydock/shim/message"
)

// Route says for the calls that it fits, in any version, which of its parts tells where the call goes.
type Route struct {
	Match Match `yaml:"match" need:"write match: {path: '/things/{id}'}"`
	// By is path:NAME, header:NAME or query:NAME.
	By string `yaml:"by" need:"write by: path:id, the part of the call that tells whose it is"`
}

// Router finds keys of calls. It is safe for concurrent use.
type Router struct{ routes []route }

type route struct {
	match *matcher
	by    address
}

// CompileRoutes checks routes. Problems have paths as [0].match.path.
func CompileRoutes(list []Route) (*Router, []Problem) {
	r, c := &Router{}, &compiler{}
	for i, one := range list {
		c.at(fmt.Sprintf("[%d]", i), func(c *compiler) {
			m, problems := compileMatch(one.Match, "")
			c.below(problems)
			by := c.address("by", one.By)
			if by.place == inBody {
				c.add("by", "is in the body, which has not come when the call is routed", "write path:NAME, header:NAME or query:NAME")
			}
			r.routes = append(r.routes, route{m, by})
		})
	}
	return r, c.problems
}

// Key is the key of a call; false where it has none, and may go anywhere. A call that should have one and does not is an error.
func (r *Router) Key(request *message.Request) (string, bool, error) {
	for _, one := range r.routes {
		s := &scope{request: request}
		vars, fits, err := one.match.match(s)
		if err != nil {
			return "", false, err
		}
		if !fits {
			continue
		}
		s.vars = vars
		v, err := one.by.get(s)
		if err != nil {
			return "", false, err
		}
		if v == nil {
			return "", false, message.Untranslatablef("%s is missing, and tells where the call goes", one.by)
		}
		return v.Text(), true, nil
	}
	return "", false, nil
}
