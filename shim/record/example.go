package record

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"drydock/shim/message"
	"drydock/shim/rules"

	"go.yaml.in/yaml/v3"
)

func makeRequest(in Request) (*message.Request, error) {
	u, err := url.ParseRequestURI(in.Path)
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	path, err := message.ParsePath(u.EscapedPath())
	if err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	body, err := makeBody(&in.Body)
	if err != nil {
		return nil, err
	}
	return &message.Request{Method: in.Method, Path: path, Query: query, Header: makeHeader(in.Header), Body: body}, nil
}

func makeReply(in *Reply) (*message.Response, error) {
	body, err := makeBody(&in.Body)
	if err != nil {
		return nil, err
	}
	return &message.Response{Status: in.Status, Header: makeHeader(in.Header), Body: body}, nil
}

func makeHeader(in map[string]string) http.Header {
	out := http.Header{}
	for name, value := range in {
		out.Set(name, value)
	}
	return out
}

func makeBody(node *yaml.Node) (message.Body, error) {
	v, err := message.FromYAML(node)
	if err != nil {
		return message.Body{}, fmt.Errorf("body: %w", err)
	}
	if v == nil {
		return message.NewBody(nil, message.JSON{}), nil
	}
	return message.ValueBody(v), nil
}

func differentRequests(got, want *message.Request) string {
	if got.Method != want.Method {
		return fmt.Sprintf("the method is %s, expected %s", got.Method, want.Method)
	}
	if !slices.Equal(got.Path, want.Path) {
		return fmt.Sprintf("the path is %s, expected %s", got.Path, want.Path)
	}
	if got.Query.Encode() != want.Query.Encode() {
		return fmt.Sprintf("the query is %q, expected %q", got.Query.Encode(), want.Query.Encode())
	}
	return differentContents(got.Header, want.Header, &got.Body, &want.Body)
}

func differentReplies(got, want *message.Response) string {
	if got.Status != want.Status {
		return fmt.Sprintf("the status is %d, expected %d", got.Status, want.Status)
	}
	return differentContents(got.Header, want.Header, &got.Body, &want.Body)
}

func differentContents(gotHeader, wantHeader http.Header, gotBody, wantBody *message.Body) string {
	if !maps.EqualFunc(gotHeader, wantHeader, slices.Equal) {
		return fmt.Sprintf("the header is {%s}, expected {%s}", showHeader(gotHeader), showHeader(wantHeader))
	}
	got, err := gotBody.Value()
	if err != nil {
		return err.Error()
	}
	want, err := wantBody.Value()
	if err != nil {
		return err.Error()
	}
	return message.Difference(got, want)
}

func showHeader(h http.Header) string {
	var lines []string
	for name, values := range h {
		lines = append(lines, name+": "+strings.Join(values, ", "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// orPass is a translator also where calls mean the same in both versions.
func orPass(t *rules.Translator) *rules.Translator {
	if t != nil {
		return t
	}
	pass, _ := rules.Compile(rules.Spec{Otherwise: "pass"}, nil)
	return pass
}
