package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	drydockv1 "drydock/api/drydock/v1"
	"drydock/api/drydock/v1/drydockv1connect"
	"drydock/internal/config"
	"drydock/internal/durable"
	"drydock/internal/pki"
	"drydock/internal/version"
	"drydock/orchestrator/store"
)

// joinRetry is how long a controller waits that no other one lets in yet.
const joinRetry = time.Second

// membership is this controller's part in a store that several hold; nil where it has a store of its own, or one outside. A
// controller that has a token and no store yet joins the others.
func membership(ctx context.Context, cfg config.Controller, log *slog.Logger) (*store.Membership, error) {
	if cfg.Etcd.Peer == "" || len(cfg.Etcd.Endpoints) > 0 {
		return nil, nil
	}
	others, err := joined(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	bundle, err := localCA(cfg.DataDir, time.Now)
	if err != nil {
		return nil, err
	}
	ca, err := pki.ParseCA(bundle, time.Now)
	if err != nil {
		return nil, err
	}
	files := storeFiles(cfg.DataDir)
	return &store.Membership{
		Name: cfg.Name, Address: cfg.Etcd.Peer, Others: others,
		CAFile: files.ca, CertFile: files.cert, KeyFile: files.key, Common: pki.StoreName,
	}, files.renew(cfg, ca, time.Now())
}

// certFiles are where a certificate lies as three files.
type certFiles struct{ ca, cert, key string }

func storeFiles(dataDir string) certFiles {
	dir := filepath.Join(dataDir, "store-tls")
	return certFiles{ca: filepath.Join(dir, "ca.crt"), cert: filepath.Join(dir, "store.crt"), key: filepath.Join(dir, "store.key")}
}

// renew makes the certificate that the parts of the store know each other by, where there is none or it is due. The store reads
// the files at every connection.
func (f certFiles) renew(cfg config.Controller, ca *pki.CA, now time.Time) error {
	address, _, err := net.SplitHostPort(cfg.Etcd.Peer)
	if err != nil || ca.HoldsStore(f.ca, f.cert, f.key, address, now) {
		return err
	}
	bundle, err := ca.IssueStore(address)
	if err != nil {
		return err
	}
	cert, key, err := pki.SplitBundle(bundle)
	if err != nil {
		return err
	}
	return errors.Join(
		durable.Replace(f.ca, ca.Certificate(), 0o644),
		durable.Replace(f.key, key, 0o600),
		durable.Replace(f.cert, cert, 0o644),
	)
}

// joined are the other parts of the store that this controller has joined, or joins now; none where it is the first one, or its
// store is there already and knows the others itself.
func joined(ctx context.Context, cfg config.Controller, log *slog.Logger) (map[string]string, error) {
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "etcd")); err == nil || len(cfg.Join.Controllers) == 0 {
		return nil, nil
	}
	path := filepath.Join(cfg.DataDir, "joined.json")
	if data, err := os.ReadFile(path); err == nil {
		var others map[string]string
		if err := json.Unmarshal(data, &others); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return others, nil
	}
	response, err := join(ctx, cfg, log)
	if err != nil {
		return nil, fmt.Errorf("join the other controllers: %w", err)
	}
	others := make(map[string]string)
	for _, peer := range response.GetPeers() {
		if peer.GetUrl() != store.PeerURL(cfg.Etcd.Peer) {
			others[peer.GetName()] = peer.GetUrl()
		}
	}
	data, err := json.Marshal(others)
	if err != nil {
		return nil, err
	}
	// The token is used up: what it has brought is kept before anything else is done.
	return others, errors.Join(durable.Replace(caFile(cfg.DataDir), response.GetCa(), 0o600), durable.Replace(path, data, 0o600))
}

// join asks the other controllers, one after the other, until one lets this one in or says why not.
func join(ctx context.Context, cfg config.Controller, log *slog.Logger) (*drydockv1.JoinControllerResponse, error) {
	text, err := os.ReadFile(cfg.Join.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("there is no token: %w; make one with `drydock controller join %s`", err, cfg.Name)
	}
	token, err := pki.ParseToken(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Join.TokenFile, err)
	}
	request := &drydockv1.JoinControllerRequest{Token: strings.TrimSpace(string(text)), Name: cfg.Name, Peer: cfg.Etcd.Peer, Api: version.API}
	for told := ""; ; {
		response, err := joinAny(ctx, cfg.Join.Controllers, token, request)
		if err == nil || !errors.Is(err, pki.ErrNoAnswer) {
			return response, err
		}
		if err.Error() != told {
			log.Warn("this controller has not joined yet, and tries again", "error", err)
			told = err.Error()
		}
		if !sleep(ctx, joinRetry) {
			return nil, ctx.Err()
		}
	}
}

func joinAny(ctx context.Context, controllers []string, token pki.Token, request *drydockv1.JoinControllerRequest) (*drydockv1.JoinControllerResponse, error) {
	failed := pki.ErrNoAnswer
	for _, url := range controllers {
		client, base, err := pki.PinnedClient(url, token, pki.SystemClock{})
		if err != nil {
			return nil, err
		}
		response, err := drydockv1connect.NewClusterServiceClient(client, base).JoinController(ctx, connect.NewRequest(request))
		client.CloseIdleConnections()
		if err == nil {
			return response.Msg, checkPin(response.Msg.GetCa(), token)
		}
		if connect.CodeOf(err) != connect.CodeUnavailable {
			return nil, fmt.Errorf("controller %s: %w", url, err)
		}
		failed = fmt.Errorf("%w; controller %s: %w", failed, url, err)
	}
	return nil, failed
}

// checkPin refuses another CA than the token's.
func checkPin(bundle []byte, token pki.Token) error {
	block, _ := pem.Decode(bundle)
	if block == nil || sha256.Sum256(block.Bytes) != token.Pin {
		return errors.New("the controller answered with another CA than the token's: make the token anew")
	}
	return nil
}
