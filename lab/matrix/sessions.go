package main

import (
	"context"
	"fmt"
	"time"

	"drydock/lab/images"
	"drydock/lab/load"
	"drydock/lab/selfcheck"
)

// goOnFor is how long a load goes on after the move before its books are looked at.
const goOnFor = 3 * time.Second

func goOn(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(goOnFor):
		return nil
	}
}

// flawless is an error where a load found anything.
func flawless(r load.Result, err error) error {
	if err == nil && (!r.Flawless() || r.AckedWrites == 0) {
		err = fmt.Errorf("%+v", r)
	}
	return err
}

type redis struct{ *load.RedisWriters }

func openRedis(ctx context.Context, dialer load.Dialer, address string) (session, error) {
	w, err := load.StartRedisWriters(ctx, load.RedisConfig{Dialer: dialer, Addr: address, Connections: 2, Rate: 20})
	return redis{w}, err
}

func (r redis) check(ctx context.Context) error {
	if err := goOn(ctx); err != nil {
		return err
	}
	return flawless(r.Stop(ctx))
}

type postgres struct{ *load.PGWriters }

func openPostgres(ctx context.Context, dialer load.Dialer, address string) (session, error) {
	w, err := load.StartPGWriters(ctx, load.PGConfig{Dialer: dialer, Addr: address, Connections: 2, Rate: 5})
	return postgres{w}, err
}

func (p postgres) check(ctx context.Context) error {
	if err := goOn(ctx); err != nil {
		return err
	}
	return flawless(p.Stop(ctx))
}

// nginx is a download that spans the move, over one connection.
type nginx struct{ *load.Download }

func openNginx(ctx context.Context, dialer load.Dialer, address string) (session, error) {
	d, err := load.StartDownload(ctx, load.DownloadConfig{
		Dialer: dialer, URL: "http://" + address + "/data.bin", SHA256: images.DataSHA256(),
	})
	return nginx{d}, err
}

func (n nginx) check(ctx context.Context) error {
	before := n.Bytes()
	if err := goOn(ctx); err != nil {
		return err
	}
	r := n.Stop(ctx)
	if !r.Flawless() || r.Broken > 0 || n.Bytes() == before {
		return fmt.Errorf("%+v", r)
	}
	return nil
}

// goServer is a program that checks itself all the time.
type goServer struct{ *selfcheck.Client }

func openSelfcheck(ctx context.Context, dialer load.Dialer, address string) (session, error) {
	c, err := selfcheck.Dial(ctx, dialer.DialContext, address)
	if err != nil {
		return nil, err
	}
	s := goServer{c}
	return s, s.ask(ctx)
}

func (g goServer) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	report, err := g.Check(ctx)
	if err != nil {
		return err
	}
	if failed := report.Failed(); len(failed) > 0 {
		return fmt.Errorf("the program says: %+v", failed)
	}
	return nil
}

func (g goServer) check(ctx context.Context) error {
	defer g.Close()
	if err := goOn(ctx); err != nil {
		return err
	}
	return g.ask(ctx)
}
