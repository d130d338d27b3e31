package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"drydock/internal/config"
	"drydock/internal/durable"
	"drydock/internal/pki"
	"drydock/orchestrator/store"
)

// Run is a controller, from opening its store to the end of ctx. At its first start it makes a CA, and credentials for
// operators in the data directory's admin folder.
func Run(ctx context.Context, cfg config.Controller) (err error) {
	log := cfg.Log.Logger(os.Stderr)
	part, err := membership(ctx, cfg, log)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, storeConfig(cfg, part, log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ca, err := loadCA(ctx, db, cfg.DataDir, time.Now)
	if err != nil {
		return err
	}
	keeper, err := ownCertificate(cfg, ca, pki.SystemClock{})
	if err != nil {
		return err
	}
	if err := adminCredentials(cfg.DataDir, ca, time.Now()); err != nil {
		return err
	}
	on, err := listen(ctx, cfg.Listen, cfg.Socket)
	if err != nil {
		return err
	}
	log.Info("controller serves", "name", cfg.Name, "listen", on.tls.Addr().String(), "socket", cfg.Socket)
	return newController(cfg, log, db, ca, keeper).run(ctx, on)
}

func storeConfig(cfg config.Controller, part *store.Membership, log *slog.Logger) store.Config {
	return store.Config{
		DataDir: cfg.DataDir, Endpoints: cfg.Etcd.Endpoints, Membership: part,
		CAFile: cfg.Etcd.CA, CertFile: cfg.Etcd.Cert, KeyFile: cfg.Etcd.Key, Log: log,
	}
}

// run works and serves until ctx ends, or something fails that the controller cannot do without.
func (c *Controller) run(ctx context.Context, on listeners) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	start := func(what string, part func(context.Context) error) {
		group.Go(func() {
			if err := part(ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	start("work", c.work)
	start("serve", func(ctx context.Context) error { return c.serve(ctx, on) })
	start("certificates", c.keepCertificates)
	start("store", func(ctx context.Context) error {
		select {
		case err := <-c.store.Failed():
			return err
		case <-ctx.Done():
			return nil
		}
	})
	group.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// adminCheck is how often the admin's credentials are looked at.
const adminCheck = time.Hour

// keepCertificates renews the controller's own certificate and the admin's until ctx ends.
func (c *Controller) keepCertificates(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		for sleep(ctx, adminCheck) {
			if err := adminCredentials(c.config.DataDir, c.ca, c.now()); err != nil {
				c.log.Error("admin's credentials not renewed", "error", err)
			}
			if c.config.Etcd.Peer == "" {
				continue
			}
			if err := storeFiles(c.config.DataDir).renew(c.config, c.ca, c.now()); err != nil {
				c.log.Error("the store's certificate not renewed", "error", err)
			}
		}
	})
	renew := func(_ context.Context, request []byte) ([]byte, []byte, error) {
		cert, err := c.ca.Sign(request, c.agents.keeper.Identity(), addressesToServe(c.config)...)
		return cert, c.ca.Certificate(), err
	}
	return c.agents.keeper.Run(ctx, renew, c.log)
}

// loadCA reads the CA from the store, which all controllers share, and keeps a copy in the data directory. At the first start
// it is made; a copy that is there is used, so that a lost store does not cost the hosts' trust.
func loadCA(ctx context.Context, db *store.Store, dataDir string, now func() time.Time) (*pki.CA, error) {
	bundle, err := localCA(dataDir, now)
	if err != nil {
		return nil, err
	}
	_, err = db.Txn().If(store.Unchanged(keyCA, 0)).PutBytes(keyCA, bundle).Commit(ctx)
	if errors.Is(err, store.ErrConflict) {
		bundle, err = db.Bytes(ctx, keyCA)
	}
	if err != nil {
		return nil, fmt.Errorf("keep the CA in the store: %w", err)
	}
	ca, err := pki.ParseCA(bundle, now)
	if err != nil {
		return nil, err
	}
	return ca, durable.Replace(caFile(dataDir), bundle, 0o600)
}

func caFile(dataDir string) string { return filepath.Join(dataDir, "ca.pem") }

// localCA is the data directory's copy of the CA; where there is none, one is made and put there.
func localCA(dataDir string, now func() time.Time) ([]byte, error) {
	bundle, err := os.ReadFile(caFile(dataDir))
	if err == nil {
		return bundle, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	ca, err := pki.NewCA(now)
	if err != nil {
		return nil, err
	}
	if bundle, err = ca.Encode(); err != nil {
		return nil, err
	}
	return bundle, durable.Replace(caFile(dataDir), bundle, 0o600)
}

// ownCertificate is the controller's own, made anew where there is none that the CA stands for.
func ownCertificate(cfg config.Controller, ca *pki.CA, clock pki.Clock) (*pki.Keeper, error) {
	dir := filepath.Join(cfg.DataDir, "tls")
	id := pki.Identity{Kind: pki.Controller, Name: cfg.Name}
	keeper, err := pki.OpenKeeper(dir, clock)
	if err == nil && keeper.Identity() == id && keeper.TrustedBy(ca) && clock.Now().Before(keeper.RenewAt()) {
		return keeper, nil
	}
	bundle, err := ca.Issue(id, addressesToServe(cfg)...)
	if err != nil {
		return nil, err
	}
	return pki.NewKeeper(dir, bundle, ca.Certificate(), clock)
}

func addressesToServe(cfg config.Controller) []string {
	var addresses []string
	for _, address := range []string{cfg.Listen, cfg.Advertise} {
		if host, _, err := net.SplitHostPort(address); err == nil && host != "" {
			addresses = append(addresses, host)
		}
	}
	return addresses
}

// adminCredentials makes the operators' certificate, as the three files that other programs like, where there is none or it is
// due.
func adminCredentials(dataDir string, ca *pki.CA, now time.Time) error {
	dir := filepath.Join(dataDir, "admin")
	files := [3]string{filepath.Join(dir, "ca.crt"), filepath.Join(dir, "admin.crt"), filepath.Join(dir, "admin.key")}
	keeper, err := pki.LoadKeeper(files[0], files[1], files[2], pki.SystemClock{})
	if err == nil && keeper.TrustedBy(ca) && now.Before(keeper.RenewAt()) {
		return nil
	}
	bundle, err := ca.Issue(pki.Admin())
	if err != nil {
		return err
	}
	cert, key, err := pki.SplitBundle(bundle)
	if err != nil {
		return err
	}
	return errors.Join(
		durable.Replace(files[0], ca.Certificate(), 0o644),
		durable.Replace(files[2], key, 0o600),
		durable.Replace(files[1], cert, 0o644),
	)
}
