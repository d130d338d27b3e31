package store

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo is etcd's logger, writing to ours: warnings and errors as what they are, and the rest for debugging. Until ready is
// set, warnings are for debugging too: at its start etcd warns of a network that it does not have here.
func zapTo(log *slog.Logger, ready *atomic.Bool) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}
	return zap.New(&zapCore{handler: log.Handler().WithAttrs([]slog.Attr{slog.String("part", "etcd")}), ready: ready})
}

type zapCore struct {
	handler slog.Handler
	ready   *atomic.Bool
}

func (c *zapCore) Enabled(level zapcore.Level) bool {
	return c.handler.Enabled(context.Background(), c.level(level))
}

func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{handler: c.handler.WithAttrs(attributes(fields)), ready: c.ready}
}

func (c *zapCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c *zapCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	record := slog.NewRecord(entry.Time, c.level(entry.Level), entry.Message, 0)
	record.AddAttrs(attributes(fields)...)
	return c.handler.Handle(context.Background(), record)
}

func (c *zapCore) Sync() error { return nil }

func (c *zapCore) level(level zapcore.Level) slog.Level {
	switch {
	case level >= zapcore.ErrorLevel:
		return slog.LevelError
	case level == zapcore.WarnLevel && c.ready.Load():
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func attributes(fields []zapcore.Field) []slog.Attr {
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(encoder)
	}
	attrs := make([]slog.Attr, 0, len(encoder.Fields))
	for key, value := range encoder.Fields {
		attrs = append(attrs, slog.Any(key, value))
	}
	return attrs
}
