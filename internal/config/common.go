package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"regexp"
	"strconv"
	"time"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	namePattern  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
)

// ValidName says whether a host, controller or pod may be called so: a DNS label.
func ValidName(name string) bool { return namePattern.MatchString(name) }

func validName(key, name string) error {
	if !ValidName(name) {
		return fmt.Errorf("`%s` %q must be 1 to 63 of a-z, 0-9 and -, not beginning or ending with -", key, name)
	}
	return nil
}

func validListen(key, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("`%s` %q is no host:port, for example 10.77.0.1:7440", key, address)
	}
	if number, err := strconv.Atoi(port); err != nil || number < 0 || number > 65535 {
		return fmt.Errorf("`%s` %q has no port between 0 and 65535", key, address)
	}
	return nil
}

// Log is what is logged, and how.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `mapstructure:"level"`
	// Format is text or json.
	Format string `mapstructure:"format"`
}

func logDefaults() Log { return Log{Level: "info", Format: "text"} }

func (l Log) validate() error {
	var level slog.Level
	err := level.UnmarshalText([]byte(l.Level))
	if err != nil {
		err = fmt.Errorf("`log.level` %q must be debug, info, warn or error", l.Level)
	}
	if l.Format != "text" && l.Format != "json" {
		err = errors.Join(err, fmt.Errorf("`log.format` %q must be text or json", l.Format))
	}
	return err
}

// Logger is a logger as configured; the configuration has been validated.
func (l Log) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
