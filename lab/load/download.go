package load

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// DownloadConfig says what to download. The server is asked to go slowly by the URL, so that one download spans a move.
type DownloadConfig struct {
	Dialer Dialer
	URL    string
	SHA256 string // of the whole body, in hexadecimal
}

// DownloadResult is what came over the one connection.
type DownloadResult struct {
	Result
	Files  int   `json:"files"` // whole bodies with the right checksum
	Bytes  int64 `json:"bytes"`
	Broken int   `json:"broken"` // bodies with a wrong checksum, or cut short
}

// Download fetches the same body again and again over one connection.
type Download struct {
	*Timeline
	cfg    DownloadConfig
	client *http.Client
	cancel context.CancelFunc
	stop   chan struct{}
	done   chan struct{}
	bytes  atomic.Int64
	result DownloadResult // read only after done
}

// StartDownload begins to download. The context covers the start only: connecting, and the first bytes.
func StartDownload(ctx context.Context, cfg DownloadConfig) (*Download, error) {
	var dialled sync.Once
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := net.Conn(nil), errors.New("the connection was lost, and a download has only one")
		dialled.Do(func() { conn, err = cfg.Dialer.DialContext(ctx, network, addr) })
		return conn, err
	}
	running, cancel := context.WithCancel(context.Background())
	d := &Download{
		Timeline: newTimeline(), cfg: cfg, cancel: cancel, stop: make(chan struct{}), done: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, MaxConnsPerHost: 1}},
	}
	d.result.ConnectionsBefore = 1
	first := make(chan struct{})
	go d.run(running, sync.OnceFunc(func() { close(first) }))
	select {
	case <-first:
		return d, nil
	case <-d.done:
		cancel()
		return nil, fmt.Errorf("download %s: %s", cfg.URL, d.result.FirstError)
	case <-ctx.Done():
		cancel()
		<-d.done
		return nil, fmt.Errorf("download %s: %w", cfg.URL, ctx.Err())
	}
}

// Bytes returns how much arrived so far.
func (d *Download) Bytes() int64 { return d.bytes.Load() }

// Stop waits for the end of the body that is on its way. When the context ends before, that body counts as broken.
func (d *Download) Stop(ctx context.Context) DownloadResult {
	close(d.stop)
	defer context.AfterFunc(ctx, d.cancel)()
	<-d.done
	d.cancel()
	d.client.CloseIdleConnections()
	return d.result
}

func (d *Download) run(ctx context.Context, arrived func()) {
	defer close(d.done)
	for {
		sum, err := d.fetch(ctx, arrived)
		if err == nil && sum != d.cfg.SHA256 {
			err = fmt.Errorf("body %d has the checksum %s instead of %s", d.result.Files+1, sum, d.cfg.SHA256)
		}
		d.result.Bytes = d.bytes.Load()
		if err != nil {
			d.result.Broken++
			d.result.fail(err)
			return
		}
		d.result.Files++
		select {
		case <-d.stop:
			d.result.ConnectionsAfter = 1
			return
		default:
		}
	}
}

// fetch downloads one body and returns its checksum.
func (d *Download) fetch(ctx context.Context, arrived func()) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.cfg.URL, nil)
	if err != nil {
		return "", err
	}
	response, err := d.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the server answered %s", response.Status)
	}
	sum := sha256.New()
	if _, err := io.Copy(arrivals{sum, d, arrived}, response.Body); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// arrivals takes the body and notes when its parts came.
type arrivals struct {
	hash.Hash
	to      *Download
	arrived func()
}

func (a arrivals) Write(part []byte) (int, error) {
	a.arrived()
	a.to.mark()
	a.to.bytes.Add(int64(len(part)))
	return a.Hash.Write(part)
}
