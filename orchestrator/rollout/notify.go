package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/orchestrator/pool"
)

// notice is what a webhook is sent.
type notice struct {
	Event   string    `json:"event"`
	Pool    string    `json:"pool"`
	Rollout string    `json:"rollout"`
	Host    string    `json:"host,omitempty"`
	State   string    `json:"state"`
	Text    string    `json:"text"`
	At      time.Time `json:"at"`
}

// notify tells the pool's webhooks of an event, once, beside the rollout: what they answer changes nothing.
func (x *execution) notify(head *drydockv1.Rollout, event, host, text string) {
	n := notice{Event: event, Pool: x.pool.Name, Rollout: x.id, Host: host, State: word(head.GetState()), Text: text, At: x.Now().UTC()}
	for _, hook := range x.pool.Notify {
		if !slices.Contains(hook.Events, event) {
			continue
		}
		x.Go(func() {
			if err := x.post(x.Context(), hook, n); err != nil && x.Context().Err() == nil {
				x.Log.Warn("webhook was not told", "rollout", x.id, "event", event, "error", err)
			}
		})
	}
}

func (x *execution) post(ctx context.Context, hook pool.Webhook, n notice) error {
	ctx, cancel := context.WithTimeout(ctx, hook.Timeout)
	defer cancel()
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode the event: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook %s: %w", hook.URL, err)
	}
	request.Header.Set("Content-Type", "application/json")
	if hook.TokenFile != "" {
		token, err := os.ReadFile(hook.TokenFile)
		if err != nil {
			return fmt.Errorf("webhook's token: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("webhook %s answers %s", hook.URL, response.Status)
	}
	return nil
}
