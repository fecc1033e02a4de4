package language

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
)

// project writes a program's files and returns what the engine says about it.
func project(t *testing.T, options map[string]any, files map[string]string) *pulumirpc.ProgramInfo {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opts, err := structpb.NewStruct(options)
	if err != nil {
		t.Fatal(err)
	}
	return &pulumirpc.ProgramInfo{RootDirectory: dir, ProgramDirectory: dir, EntryPoint: ".", Options: opts}
}

func newHost(t *testing.T) *Host {
	t.Helper()
	h := New(engine.NewClient("127.0.0.1:1")).(*Host)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

const goModText = "module example.org/p\n\ngo 1.24\n"

func runProgram(h *Host, info *pulumirpc.ProgramInfo) (*pulumirpc.RunResponse, error) {
	return h.Run(context.Background(), &pulumirpc.RunRequest{
		Project: "p", Stack: "s", Organization: "o", Pwd: info.GetProgramDirectory(), Info: info, DryRun: true, Parallel: 7,
		Config: map[string]string{"p:a": "b"}, ConfigSecretKeys: []string{"p:a"}, MonitorAddress: "127.0.0.1:2",
	})
}

func TestRunTellsTheProgramAboutItself(t *testing.T) {
	info := project(t, map[string]any{"buildTarget": "bin/p"}, map[string]string{
		"go.mod": goModText,
		"main.go": `package main

import ("os"; "strings")

func main() {
	var out []string
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "PULUMI_") { out = append(out, e) }
	}
	_ = os.WriteFile("env", []byte(strings.Join(out, "\n")), 0o600)
}
`,
	})
	res, err := runProgram(newHost(t), info)
	if err != nil || res.GetError() != "" || res.GetBail() {
		t.Fatalf("run: %v %v", err, res)
	}
	env, err := os.ReadFile(filepath.Join(info.GetProgramDirectory(), "env"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"PULUMI_PROJECT=p", "PULUMI_STACK=s", "PULUMI_ORGANIZATION=o", `PULUMI_CONFIG={"p:a":"b"}`,
		`PULUMI_CONFIG_SECRET_KEYS=["p:a"]`, "PULUMI_DRY_RUN=true", "PULUMI_PARALLEL=7", "PULUMI_MONITOR=127.0.0.1:2",
		"PULUMI_ENGINE=127.0.0.1:1", "PULUMI_ROOT_DIRECTORY=" + info.GetRootDirectory(),
	} {
		if !strings.Contains("\n"+string(env)+"\n", "\n"+want+"\n") {
			t.Errorf("no %s in\n%s", want, env)
		}
	}
	if _, err := os.Stat(filepath.Join(info.GetProgramDirectory(), "bin", "p")); err != nil {
		t.Errorf("buildTarget is not kept: %v", err)
	}

	built := project(t, map[string]any{"binary": filepath.Join(info.GetProgramDirectory(), "bin", "p")}, nil)
	if _, err := runProgram(newHost(t), built); err != nil {
		t.Errorf("binary: %v", err)
	}
	if _, err := os.Stat(filepath.Join(built.GetProgramDirectory(), "env")); err != nil {
		t.Errorf("the given binary did not run: %v", err)
	}
}

func TestFailingPrograms(t *testing.T) {
	main := func(body string) map[string]string {
		return map[string]string{"go.mod": goModText, "main.go": "package main\n\nimport \"os\"\n\nfunc " +
			"main() { " + body + " }\n"}
	}
	h := newHost(t)
	if res, err := runProgram(h, project(t, nil, main("os.Exit(32)"))); err != nil || !res.GetBail() {
		t.Errorf("a program that has told its error: %v %v", res, err)
	}
	if res, err := runProgram(h, project(t, nil, main("os.Exit(3)"))); err != nil ||
		!strings.Contains(res.GetError(), "exit code: 3") {
		t.Errorf("exit 3: %v %v", res, err)
	}
	for name, c := range map[string]struct {
		info *pulumirpc.ProgramInfo
		want string
	}{
		"compile error":    {project(t, nil, main("nonsense()")), "undefined: nonsense"},
		"missing binary":   {project(t, map[string]any{"binary": "none"}, nil), "build it first"},
		"both options":     {project(t, map[string]any{"binary": "a", "buildTarget": "b"}, nil), "exclude each other"},
		"unknown option":   {project(t, map[string]any{"typo": "a"}, nil), `does not support the runtime option "typo"`},
		"option of a kind": {project(t, map[string]any{"binary": true}, nil), "must be a string"},
	} {
		if _, err := runProgram(h, c.info); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestCancelKillsTheProgram(t *testing.T) {
	info := project(t, nil, map[string]string{"go.mod": goModText, "main.go": `package main

import ("os"; "time")

func main() { _ = os.WriteFile("up", nil, 0o600); time.Sleep(time.Hour) }
`})
	h := newHost(t)
	done := make(chan *pulumirpc.RunResponse, 1)
	go func() {
		res, _ := runProgram(h, info)
		done <- res
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(info.GetProgramDirectory(), "up")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the program does not start")
		}
	}
	if _, err := h.Cancel(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case res := <-done:
		if !strings.Contains(res.GetError(), "cancelled") {
			t.Errorf("error %q, want cancelled", res.GetError())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the program goes on after Cancel")
	}
}

func TestRequiredPlugins(t *testing.T) {
	info := project(t, nil, map[string]string{
		"go.mod": goModText + `
require (
	example.org/plain v1.0.0
	example.org/Sdk/v4 v4.1.0
	example.org/local v0.0.0
	example.org/quiet v1.0.0
)

replace example.org/local => ./local
`,
		"local/pulumi-plugin.json":                                   `{"resource": true, "name": "local", "version": "v0.3.0", "server": "https://example.org"}`,
		"cache/example.org/!sdk/v4@v4.1.0/go/sdk/pulumi-plugin.json": `{"resource": true, "name": "sdk", "version": "4.1.0"}`,
		"cache/example.org/quiet@v1.0.0/go/pulumi-plugin.json":       `{"resource": false}`,
		"cache/example.org/plain@v1.0.0/go.mod":                      "module example.org/plain\n",
	})
	t.Setenv("GOMODCACHE", filepath.Join(info.GetProgramDirectory(), "cache"))
	res, err := newHost(t).GetRequiredPackages(t.Context(), &pulumirpc.GetRequiredPackagesRequest{Info: info})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range res.GetPackages() {
		got = append(got, strings.TrimSpace(p.GetKind()+" "+p.GetName()+" "+p.GetVersion()+" "+p.GetServer()))
	}
	want := []string{"resource sdk v4.1.0", "resource local v0.3.0 https://example.org"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("packages %q, want %q", got, want)
	}
}
