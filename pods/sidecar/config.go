package sidecar

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	drydockv1 "drydock/api/drydock/v1"
)

const recordFile = "record.yaml"

// config is the shim's configuration, as drydock/shim/process reads it.
type config struct {
	Record   string            `yaml:"record"`
	Server   *server           `yaml:"server,omitempty"`
	Backends []server          `yaml:"backends,omitempty"`
	Health   *health           `yaml:"health,omitempty"`
	Pass     bool              `yaml:"pass,omitempty"`
	Listen   []listen          `yaml:"listen"`
	Clients  map[string]string `yaml:"clients,omitempty"`
	MaxBody  int64             `yaml:"max-body,omitempty"`
	Control  string            `yaml:"control"`
	State    string            `yaml:"state"`
	Traces   string            `yaml:"traces,omitempty"`
}

type server struct {
	Name    string `yaml:"name,omitempty"`
	Address string `yaml:"address"`
	Version string `yaml:"version"`
	Hold    bool   `yaml:"hold,omitempty"`
}

type health struct {
	Path  string        `yaml:"path,omitempty"`
	Every time.Duration `yaml:"every,omitempty"`
}

type listen struct {
	Address string `yaml:"address"`
	Port    int    `yaml:"port,omitempty"`
}

// Configuration is what the shim of a pod reads. The record and its files are in a directory of their own for each generation, so
// that a change of all of them is one of this file.
func Configuration(pod *drydockv1.PodSpec) ([]byte, error) {
	shim := pod.GetShim()
	out := config{
		Record: path.Join(generationDir(shim), recordFile), Clients: shim.GetClients(), MaxBody: shim.GetMaxBody(), Traces: shim.GetTraces(),
		Control: path.Join(inside, Socket), State: path.Join(inside, stateDir),
	}
	if Gateway(shim) {
		out.Pass = shim.GetPass()
		for _, b := range shim.GetBackends() {
			out.Backends = append(out.Backends, server{b.GetName(), b.GetAddress(), b.GetVersion(), b.GetHold()})
		}
		if shim.GetHealthPath() != "" || shim.GetHealthEvery() != nil {
			out.Health = &health{shim.GetHealthPath(), shim.GetHealthEvery().AsDuration()}
		}
		for _, port := range shim.GetPorts() {
			out.Listen = append(out.Listen, listen{Address: hostPort("", uint16(port))})
		}
		return yaml.Marshal(out)
	}
	for _, s := range Steer(pod) {
		out.Listen = append(out.Listen, listen{s.address(), int(s.Port)})
	}
	out.Server = &server{Address: hostPort(address(pod), uint16(shim.GetPorts()[0])), Version: shim.GetVersion()}
	return yaml.Marshal(out)
}

func generationDir(shim *drydockv1.ShimSpec) string {
	return strconv.FormatUint(shim.GetGeneration(), 10)
}

// WriteRecord puts the record of a pod's shim, and the files beside it, into its volume, where nothing uses them yet, and returns where
// the record is.
func WriteRecord(volume string, pod *drydockv1.PodSpec) (string, error) {
	shim := pod.GetShim()
	dir := filepath.Join(volume, ConfigDir, generationDir(shim))
	files := map[string][]byte{recordFile: shim.GetRecord()}
	for name, data := range shim.GetFiles() {
		files[name] = data
	}
	for name, data := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", fmt.Errorf("shim of pod %s: %w", pod.GetName(), err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return "", fmt.Errorf("shim of pod %s: %w", pod.GetName(), err)
		}
	}
	return filepath.Join(dir, recordFile), nil
}

// Write makes the configuration that a shim takes up when it starts or is told to reload. The record must have been written.
func Write(volume string, pod *drydockv1.PodSpec) error {
	data, err := Configuration(pod)
	if err != nil {
		return fmt.Errorf("configuration of the shim of pod %s: %w", pod.GetName(), err)
	}
	file := filepath.Join(volume, ConfigFile)
	if err := errors.Join(os.WriteFile(file+".new", data, 0o644), os.Rename(file+".new", file)); err != nil {
		return fmt.Errorf("configuration of the shim of pod %s: %w", pod.GetName(), err)
	}
	return nil
}

// Tidy removes the records of other generations.
func Tidy(volume string, pod *drydockv1.PodSpec) error {
	entries, err := os.ReadDir(filepath.Join(volume, ConfigDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != generationDir(pod.GetShim()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(volume, ConfigDir, entry.Name())))
		}
	}
	return err
}
