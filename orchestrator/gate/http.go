package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// HTTP is green where a GET is answered as wanted. Redirects are answers, and are not followed.
type HTTP struct {
	URL string
	// Status is the one wanted; 0 is any of 200 to 299.
	Status int
	// Contains is what the first megabyte of the body must contain.
	Contains string
	// TokenFile holds a bearer token, read anew for each request.
	TokenFile string
}

// Prometheus is green where every sample that the query gives lies within the bounds. No sample is no answer: write
// `... or vector(0)` where nothing found means zero.
type Prometheus struct {
	URL   string
	Query string
	// Below and Above are bounds that are not part of what is allowed; at least one is set.
	Below, Above *float64
	TokenFile    string
}

// maxBody is how much of an answer is looked at.
const maxBody = 1 << 20

func newClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get returns what was answered, and at most maxBody of its body; whether that is all of it is told too.
func get(ctx context.Context, client *http.Client, address, tokenFile string) (status int, body []byte, whole bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, false, err
	}
	if tokenFile != "" {
		token, err := os.ReadFile(tokenFile)
		if err != nil {
			return 0, nil, false, fmt.Errorf("token for %s: %w", address, err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, false, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return 0, nil, false, fmt.Errorf("read the answer of %s: %w", address, err)
	}
	return response.StatusCode, body[:min(len(body), maxBody)], len(body) <= maxBody, nil
}

func (h *HTTP) asker(client *http.Client) func(context.Context, Subject) (Verdict, error) {
	return func(ctx context.Context, s Subject) (Verdict, error) {
		address := ForHost(h.URL, s.Host.GetName())
		status, body, _, err := get(ctx, client, address, h.TokenFile)
		if err != nil {
			return Verdict{}, err
		}
		if status != h.Status && (h.Status != 0 || status < 200 || status > 299) {
			return Verdict{Why: fmt.Sprintf("%s answers %d %s", address, status, http.StatusText(status))}, nil
		}
		if !bytes.Contains(body, []byte(h.Contains)) {
			return Verdict{Why: fmt.Sprintf("the answer of %s does not contain %q", address, h.Contains)}, nil
		}
		return Verdict{Green: true, Why: fmt.Sprintf("%s answers %d", address, status)}, nil
	}
}

// ForHost puts a host's name in the place of {host}.
func ForHost(text, host string) string { return strings.ReplaceAll(text, "{host}", host) }

// answer is Prometheus' (https://prometheus.io/docs/prometheus/latest/querying/api/).
type answer struct {
	Status   string   `json:"status"`
	Error    string   `json:"error"`
	Warnings []string `json:"warnings"`
	Data     struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

type sample struct {
	labels map[string]string
	value  float64
}

func (p *Prometheus) asker(client *http.Client) func(context.Context, Subject) (Verdict, error) {
	return func(ctx context.Context, s Subject) (Verdict, error) {
		query := ForHost(p.Query, s.Host.GetName())
		address := strings.TrimSuffix(p.URL, "/") + "/api/v1/query?" + url.Values{"query": {query}}.Encode()
		status, body, whole, err := get(ctx, client, address, p.TokenFile)
		if err != nil {
			return Verdict{}, err
		}
		if !whole {
			return Verdict{}, fmt.Errorf("%s answers %s with more than %d bytes", p.URL, query, maxBody)
		}
		samples, err := read(status, body)
		if err != nil {
			return Verdict{}, fmt.Errorf("%s, query %s: %w", p.URL, query, err)
		}
		return p.judge(query, samples), nil
	}
}

func read(status int, body []byte) ([]sample, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("status %d, and the answer is no JSON: %w", status, err)
	}
	if status != http.StatusOK || a.Status != "success" {
		return nil, fmt.Errorf("status %d %s: %s", status, a.Status, a.Error)
	}
	if len(a.Warnings) > 0 {
		return nil, fmt.Errorf("the answer may not be whole: %s", strings.Join(a.Warnings, "; "))
	}
	switch a.Data.ResultType {
	case "scalar":
		var point [2]any
		if err := json.Unmarshal(a.Data.Result, &point); err != nil {
			return nil, err
		}
		value, err := number(point)
		return []sample{{value: value}}, err
	case "vector":
		var series []struct {
			Metric map[string]string `json:"metric"`
			Value  [2]any            `json:"value"`
		}
		if err := json.Unmarshal(a.Data.Result, &series); err != nil {
			return nil, err
		}
		var samples []sample
		for _, s := range series {
			value, err := number(s.Value)
			if err != nil {
				return nil, err
			}
			samples = append(samples, sample{s.Metric, value})
		}
		return samples, nil
	}
	return nil, fmt.Errorf("the query gives a %q, and a gate needs a scalar or a vector", a.Data.ResultType)
}

func number(point [2]any) (float64, error) {
	text, ok := point[1].(string)
	if !ok {
		return 0, errors.New("a sample has no value")
	}
	return strconv.ParseFloat(text, 64)
}

func (p *Prometheus) judge(query string, samples []sample) Verdict {
	if len(samples) == 0 {
		return Verdict{Why: query + " gives no sample: write `or vector(0)` behind it if that means zero"}
	}
	for _, s := range samples {
		if math.IsNaN(s.value) || p.Below != nil && s.value >= *p.Below || p.Above != nil && s.value <= *p.Above {
			return Verdict{Why: fmt.Sprintf("%s is %v%s, which is not %s", query, s.value, of(s.labels), p.bounds())}
		}
	}
	return Verdict{Green: true, Why: fmt.Sprintf("%s is %s", query, p.bounds())}
}

func (p *Prometheus) bounds() string {
	var words []string
	if p.Above != nil {
		words = append(words, fmt.Sprintf("above %v", *p.Above))
	}
	if p.Below != nil {
		words = append(words, fmt.Sprintf("below %v", *p.Below))
	}
	return strings.Join(words, " and ")
}

func of(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	text, err := json.Marshal(labels) // sorted by key
	if err != nil {
		return ""
	}
	return " for " + string(text)
}
