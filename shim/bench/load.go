package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// way is one way to the server.
type way struct {
	name, address string
	// request is sent as it is; want is what the answer's body must be, or has in any order with the same length.
	request, want, has string
}

func (w way) right(body string) bool {
	return body == w.want || w.has != "" && len(body) == len(w.want) && strings.Contains(body, w.has)
}

// measure makes calls over several connections, and then over one.
func (w way) measure(ctx context.Context) (figures, error) {
	many, took, err := w.calls(ctx, connections, perRound)
	if err != nil {
		return figures{}, err
	}
	alone, _, err := w.calls(ctx, 1, perRound/2)
	if err != nil {
		return figures{}, err
	}
	return figures{
		CallsPerSecond: float64(len(many)) / took.Seconds(), P50: at(many, 0.5), P99: at(many, 0.99), AloneP50: at(alone, 0.5),
	}, nil
}

// at is a quantile in microseconds.
func at(times []time.Duration, q float64) float64 {
	slices.Sort(times)
	return float64(times[int(q*float64(len(times)-1))].Nanoseconds()) / 1000
}

// calls are how long each took, and all together.
func (w way) calls(ctx context.Context, n int, during time.Duration) ([]time.Duration, time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	var failure error
	var group sync.WaitGroup
	begun := time.Now()
	for range n {
		group.Go(func() {
			times, err := w.connection(ctx, begun.Add(during))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			if err != nil {
				failure = err
			}
		})
	}
	group.Wait()
	if failure == nil && len(all) == 0 {
		failure = fmt.Errorf("no call ended")
	}
	return all, time.Since(begun), failure
}

// connection makes calls one behind the other.
func (w way) connection(ctx context.Context, until time.Time) ([]time.Duration, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", w.address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(until.Add(30 * time.Second)); err != nil {
		return nil, err
	}
	answers := bufio.NewReader(c)
	var times []time.Duration
	for begun := time.Now(); begun.Before(until) && ctx.Err() == nil; begun = time.Now() {
		if _, err := io.WriteString(c, w.request); err != nil {
			return nil, err
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK || !w.right(string(body)) {
			return nil, fmt.Errorf("answer %d %q, expected %q, %v", answer.StatusCode, body, w.want, err)
		}
		times = append(times, time.Since(begun))
	}
	return times, ctx.Err()
}
