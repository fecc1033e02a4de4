package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"golang.org/x/mod/modfile"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/language"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
)

// programModule is the program's go.mod.
const programModule = "../../go.mod"

// TestEveryPluginHasADouble compares the doubles with the program's go.mod: each plugin that the program needs has one,
// there is none more, and each says that it is the version that is wanted.
func TestEveryPluginHasADouble(t *testing.T) {
	versions, err := pulumi.Versions(programModule)
	if err != nil {
		t.Fatal(err)
	}
	if want, got := slices.Sorted(maps.Keys(versions)), slices.Sorted(maps.Keys(doubles)); !slices.Equal(want, got) {
		t.Fatalf("go.mod needs the plugins %v, there are doubles of %v", want, got)
	}
	home := t.TempDir()
	stack := &pulumi.Stack{Name: "x", Dir: home}
	if err := stack.Install("/pulumi", pulumi.Plugins{Versions: versions, Doubles: "/doubles"}); err != nil {
		t.Fatal(err)
	}
	for name, version := range versions {
		path := filepath.Join(home, "home", "plugins", "resource-"+name+"-"+version, "pulumi-resource-"+name)
		if _, err := os.Readlink(path); err != nil {
			t.Errorf("%s is not installed where the engine looks for it: %v", name, err)
		}
		service, err := find(path)
		if err != nil {
			t.Error(err)
			continue
		}
		provider, ok := service(engine.NewClient("")).(plugin.Provider)
		if !ok {
			t.Fatalf("%s is no resource provider", name)
		}
		info, err := provider.GetPluginInfo(t.Context())
		if err != nil || info.Version == nil || "v"+info.Version.String() != version {
			t.Errorf("%s says it is %v (%v), go.mod wants %s", name, info.Version, err, version)
		}
	}
}

// The language host and the command line are of the version whose SDK the program is built with.
func TestLanguageHostIsOfTheSDKsVersion(t *testing.T) {
	text, err := os.ReadFile(programModule)
	if err != nil {
		t.Fatal(err)
	}
	module, err := modfile.Parse(programModule, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range module.Require {
		if r.Mod.Path != "github.com/pulumi/pulumi/sdk/v3" {
			continue
		}
		found = true
		for what, version := range map[string]string{
			"language host": "v" + language.Version, "command line": artifacts.PulumiVersion,
		} {
			if version != r.Mod.Version {
				t.Errorf("the %s is %s, the SDK %s", what, version, r.Mod.Version)
			}
		}
	}
	if !found {
		t.Error("the program requires no Pulumi SDK")
	}
}

func TestUnknownCallsAreRefused(t *testing.T) {
	for path, want := range map[string]string{
		"/x/plugins": "does nothing under this name",
		"/x/resource-aws-v1.0.0/pulumi-resource-aws": "does nothing under this name",
		"/x/random":                       "does nothing under this name",
		"/usr/bin/pulumi-resource-random": `in the folder "bin"`,
		"/x/resource-random-vnext/pulumi-resource-random":       `in the folder "resource-random-vnext"`,
		"/x/resource-command-v1.2.1/pulumi-resource-random":     `in the folder "resource-command-v1.2.1"`,
		"/x/resource-random-v4.21.0/pulumi-resource-random":     "",
		"/home/bin/pulumi-language-go":                          "",
		"resource-command-v1.2.1-alpha/pulumi-resource-command": "",
	} {
		_, err := find(path)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", path, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}
