package module

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// Limits bound what a module may use. What is 0 gets the value of DefaultLimits.
type Limits struct {
	// Memory is for one instance, in bytes.
	Memory int64
	// Time is for one piece of data, and for the start of an instance.
	Time time.Duration
	// Output is what may come of one piece of data, in bytes.
	Output int64
	// Instances is how many may run at once.
	Instances int
}

// DefaultLimits are 32 MiB, 1 s, 16 MiB and 1000.
func DefaultLimits() Limits {
	return Limits{Memory: 32 << 20, Time: time.Second, Output: 16 << 20, Instances: 1000}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	if l.Memory <= 0 {
		l.Memory = d.Memory
	}
	if l.Time <= 0 {
		l.Time = d.Time
	}
	if l.Output <= 0 {
		l.Output = d.Output
	}
	if l.Instances <= 0 {
		l.Instances = d.Instances
	}
	return l
}

const (
	pageSize = 64 << 10
	// maxCode is more than a translator in Go needs.
	maxCode = 32 << 20
	// startTime is how long an instance may take to begin: Go's runtime starts with it.
	startTime = 15 * time.Second
	hostName  = "drydock"
)

// Module is a translator's code, ready to run. It is safe for concurrent use.
type Module struct {
	name     string
	limits   Limits
	runtime  wazero.Runtime
	compiled wazero.CompiledModule

	mu      sync.Mutex
	running int
	closed  bool
}

// Load compiles a module and refuses one that lacks the interface, or wants more than it.
func Load(ctx context.Context, name string, code []byte, limits Limits) (*Module, error) {
	if len(code) > maxCode {
		return nil, fmt.Errorf("module %s: %d bytes are too many; keep it below %d", name, len(code), maxCode)
	}
	m := &Module{name: name, limits: limits.orDefault()}
	m.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCloseOnContextDone(true).WithMemoryLimitPages(uint32(min(m.limits.Memory/pageSize, 65536))))
	err := m.prepare(ctx, code)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("module %s: %w", name, err), m.runtime.Close(ctx))
	}
	return m, nil
}

func (m *Module) prepare(ctx context.Context, code []byte) error {
	var err error
	if m.compiled, err = m.runtime.CompileModule(ctx, code); err != nil {
		return err
	}
	if err := m.refuseMore(); err != nil {
		return err
	}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, m.runtime); err != nil {
		return err
	}
	_, err = m.runtime.NewHostModuleBuilder(hostName).
		NewFunctionBuilder().WithFunc(emit).Export("emit").NewFunctionBuilder().WithFunc(called).Export("called").Instantiate(ctx)
	return err
}

// harmless are the functions of WASI that runtimes of languages need. Without files, arguments and a real clock behind
// them they reach nothing.
var harmless = []string{
	"args_get", "args_sizes_get", "clock_res_get", "clock_time_get", "environ_get", "environ_sizes_get", "fd_close", "fd_fdstat_get", "fd_fdstat_set_flags",
	"fd_prestat_dir_name", "fd_prestat_get", "fd_read", "fd_seek", "fd_write", "poll_oneoff", "proc_exit", "random_get", "sched_yield",
}

// refuseMore looks for what is missing, and for what a module may not have.
func (m *Module) refuseMore() error {
	var more []string
	for _, f := range m.compiled.ImportedFunctions() {
		from, name, _ := f.Import()
		wasi := from == wasi_snapshot_preview1.ModuleName && slices.Contains(harmless, name)
		if !wasi && !(from == hostName && (name == "emit" || name == "called")) {
			more = append(more, from+"."+name)
		}
	}
	for _, memory := range m.compiled.ImportedMemories() {
		from, name, _ := memory.Import()
		more = append(more, from+"."+name)
	}
	if len(more) > 0 {
		return fmt.Errorf("it wants %s, which modules may not have", strings.Join(more, ", "))
	}
	exported := m.compiled.ExportedFunctions()
	for name, signature := range map[string][2]int{"drydock_open": {1, 0}, "drydock_buffer": {1, 1}, "drydock_data": {2, 0}} {
		f, ok := exported[name]
		if !ok || len(f.ParamTypes()) != signature[0] || len(f.ResultTypes()) != signature[1] || !words(f) {
			return fmt.Errorf("it exports no function %s with %d parameters and %d results of 32 bits", name, signature[0], signature[1])
		}
	}
	if len(m.compiled.ExportedMemories()) == 0 {
		return errors.New("it exports no memory")
	}
	return nil
}

func words(f api.FunctionDefinition) bool {
	for _, kind := range append(slices.Clone(f.ParamTypes()), f.ResultTypes()...) {
		if kind != api.ValueTypeI32 {
			return false
		}
	}
	return true
}

// Open starts an instance for one connection. Down says that its client speaks the newer of the two versions.
func (m *Module) Open(ctx context.Context, down bool) (*Instance, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	i := &Instance{module: m}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, instanceKey{}, i), startTime)
	defer cancel()
	var err error
	i.running, err = m.runtime.InstantiateModule(ctx, m.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize"))
	if err == nil {
		var downward uint64
		if down {
			downward = 1
		}
		_, err = i.running.ExportedFunction("drydock_open").Call(ctx, downward)
	}
	if err != nil {
		err = fmt.Errorf("module %s does not start: %w", m.name, reason(ctx, err))
		return nil, errors.Join(err, i.Close())
	}
	return i, nil
}

func (m *Module) enter() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.running >= m.limits.Instances {
		return fmt.Errorf("module %s: %d instances run already, or it was closed", m.name, m.running)
	}
	m.running++
	return nil
}

// leave ends the module with its last instance, where it was closed.
func (m *Module) leave() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running--
	if m.closed && m.running == 0 {
		return m.runtime.Close(context.Background())
	}
	return nil
}

// Close opens no more instances. Those that run go on, and what the module holds goes with the last of them.
func (m *Module) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	if m.running == 0 {
		return m.runtime.Close(context.Background())
	}
	return nil
}
