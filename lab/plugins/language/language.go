// Package language is the lab's double of pulumi-language-go: it builds and
// runs Pulumi programs written in Go.
package language

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/constant"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
)

// Version is the version of Pulumi whose host the double stands for.
const Version = "3.259.0" // renovate: datasource=go depName=github.com/pulumi/pulumi/sdk/v3

// Host is the language host.
type Host struct {
	pulumirpc.UnimplementedLanguageRuntimeServer

	engine *engine.Client
	life   context.Context
	kill   context.CancelFunc
	// running counts the programs, so that Close waits until they are gone.
	running sync.WaitGroup
}

// New returns the service of pulumi-language-go.
func New(client *engine.Client) engine.Service {
	life, kill := context.WithCancel(context.Background())
	return &Host{engine: client, life: life, kill: kill}
}

// Register implements engine.Service.
func (h *Host) Register(s *grpc.Server) { pulumirpc.RegisterLanguageRuntimeServer(s, h) }

// Close implements engine.Service: it kills what runs.
func (h *Host) Close() error {
	h.kill()
	h.running.Wait()
	return nil
}

// Cancel implements pulumirpc.LanguageRuntimeServer.
func (h *Host) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	h.kill()
	return &emptypb.Empty{}, nil
}

// Handshake implements pulumirpc.LanguageRuntimeServer.
func (h *Host) Handshake(
	_ context.Context, req *pulumirpc.LanguageHandshakeRequest,
) (*pulumirpc.LanguageHandshakeResponse, error) {
	h.engine.SetAddress(req.GetEngineAddress())
	return &pulumirpc.LanguageHandshakeResponse{}, nil
}

// GetPluginInfo implements pulumirpc.LanguageRuntimeServer.
func (h *Host) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: Version}, nil
}

// RuntimeOptionsPrompts implements pulumirpc.LanguageRuntimeServer.
func (h *Host) RuntimeOptionsPrompts(
	context.Context, *pulumirpc.RuntimeOptionsRequest,
) (*pulumirpc.RuntimeOptionsResponse, error) {
	return &pulumirpc.RuntimeOptionsResponse{}, nil
}

// About implements pulumirpc.LanguageRuntimeServer.
func (h *Host) About(ctx context.Context, _ *pulumirpc.AboutRequest) (*pulumirpc.AboutResponse, error) {
	tool, err := goTool()
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, tool, "version").Output() //nolint:gosec // the tool is the user's own
	if err != nil {
		return nil, fmt.Errorf("go version: %w", err)
	}
	return &pulumirpc.AboutResponse{Executable: tool, Version: string(bytes.TrimSpace(out))}, nil
}

// Run implements pulumirpc.LanguageRuntimeServer: it builds the program, if
// it is not built yet, and runs it to its end.
func (h *Host) Run(ctx context.Context, req *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	if req.GetAttachDebugger() {
		return nil, status.Error(codes.Unimplemented, "the lab's double of pulumi-language-go does not attach debuggers")
	}
	opts, err := parseOptions(req.GetInfo())
	if err != nil {
		return nil, err
	}
	binary, cleanup, err := h.build(ctx, req.GetInfo(), opts)
	if err != nil {
		return nil, err
	}
	defer cleanup()
	env, err := environment(req, h.engine.Address())
	if err != nil {
		return nil, err
	}
	ctx, end := h.begin(ctx)
	defer end()
	cmd := exec.CommandContext(ctx, binary, req.GetArgs()...) //nolint:gosec // running the user's program is the purpose
	cmd.Dir = req.GetPwd()
	cmd.Env = append(os.Environ(), env...)
	// The engine shows what a language host prints, so the program prints there.
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = run(cmd)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return &pulumirpc.RunResponse{}, nil
	case ctx.Err() != nil:
		return &pulumirpc.RunResponse{Error: "the program was cancelled"}, nil
	case errors.As(err, &exit) && exit.ExitCode() == constant.ExitStatusLoggedError:
		return &pulumirpc.RunResponse{Bail: true}, nil // it has told its error itself
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return &pulumirpc.RunResponse{Error: fmt.Sprintf("program exited with non-zero exit code: %d", exit.ExitCode())}, nil
	}
	return &pulumirpc.RunResponse{Error: fmt.Sprintf("problem executing program (could not run language "+
		"executor): %v", err)}, nil
}

// build returns the program's executable, and a function that removes it if
// it is a temporary one.
func (h *Host) build(ctx context.Context, info *pulumirpc.ProgramInfo, opts options) (string, func(), error) {
	keep := func() {}
	program := info.GetProgramDirectory()
	if opts.Binary != "" {
		path, err := within(program, opts.Binary)
		if err != nil {
			return "", nil, err
		}
		if _, err := os.Stat(path); err != nil {
			return "", nil, fmt.Errorf("runtime option binary: %w: build it first, or leave the option out", err)
		}
		return path, keep, nil
	}
	tool, err := goTool()
	if err != nil {
		return "", nil, err
	}
	target, cleanup := "", keep
	if opts.BuildTarget != "" {
		if target, err = within(program, opts.BuildTarget); err != nil {
			return "", nil, err
		}
	} else {
		dir, err := os.MkdirTemp("", "pulumi-go.")
		if err != nil {
			return "", nil, fmt.Errorf("make a folder to build in: %w", err)
		}
		target, cleanup = filepath.Join(dir, "program"), func() { _ = os.RemoveAll(dir) }
	}
	entry := info.GetEntryPoint()
	if entry == "" {
		entry = "."
	}
	h.engine.Status(ctx, "", "Compiling the program ...")
	ctx, end := h.begin(ctx)
	defer end()
	cmd := exec.CommandContext(ctx, tool, "build", "-o", //nolint:gosec // building the user's program is the purpose
		target, entry)
	cmd.Dir = program
	if said, err := output(cmd); err != nil {
		cleanup()
		return "", nil, fmt.Errorf("unable to run `go build` in %s: %w\n%s", program, err, said)
	}
	h.engine.Status(ctx, "", "Finished compiling the program")
	return target, cleanup, nil
}

// begin returns a context that also ends with the host. The host waits for
// end before it ends itself.
func (h *Host) begin(ctx context.Context) (context.Context, func()) {
	h.running.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(h.life, cancel)
	return ctx, func() {
		stop()
		cancel()
		h.running.Done()
	}
}

// run runs the command in a process group of its own. All of it is killed when
// the command's context ends, or this process dies.
func run(cmd *exec.Cmd) error {
	detach(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	done := make(chan error, 1)
	go func() {
		// The parent-death signal goes by the thread that started the process:
		// that thread has to live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- cmd.Run()
	}()
	return <-done
}

// output is run for a command whose output matters only if it fails.
func output(cmd *exec.Cmd) (string, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := run(cmd)
	return said.String(), err
}

// environment is what the SDK in the program reads about its run.
func environment(req *pulumirpc.RunRequest, engineAddress string) ([]string, error) {
	config, err := json.Marshal(req.GetConfig())
	if err != nil {
		return nil, fmt.Errorf("the stack's configuration: %w", err)
	}
	secrets, err := json.Marshal(req.GetConfigSecretKeys())
	if err != nil {
		return nil, fmt.Errorf("the stack's secret keys: %w", err)
	}
	return []string{
		pulumi.EnvOrganization + "=" + req.GetOrganization(),
		pulumi.EnvProject + "=" + req.GetProject(),
		pulumi.EnvPulumiRootDirectory + "=" + req.GetInfo().GetRootDirectory(),
		pulumi.EnvStack + "=" + req.GetStack(),
		pulumi.EnvConfig + "=" + string(config),
		pulumi.EnvConfigSecretKeys + "=" + string(secrets),
		fmt.Sprintf("%s=%t", pulumi.EnvDryRun, req.GetDryRun()),
		fmt.Sprintf("%s=%d", pulumi.EnvParallel, req.GetParallel()),
		pulumi.EnvMonitor + "=" + req.GetMonitorAddress(),
		pulumi.EnvEngine + "=" + engineAddress,
	}, nil
}

func goTool() (string, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("the program is in Go, but there is no go on PATH: %w: install Go", err)
	}
	return tool, nil
}
