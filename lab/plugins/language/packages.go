package language

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"google.golang.org/grpc"
)

// pluginFile is what a Pulumi SDK module says about its plugin.
type pluginFile struct {
	Resource bool   `json:"resource"`
	Name     string `json:"name"`
	Version  string `json:"version"`
	Server   string `json:"server"`
}

// GetRequiredPackages implements pulumirpc.LanguageRuntimeServer: every module
// of go.mod that carries a pulumi-plugin.json needs its plugin.
func (h *Host) GetRequiredPackages(
	ctx context.Context, req *pulumirpc.GetRequiredPackagesRequest,
) (*pulumirpc.GetRequiredPackagesResponse, error) {
	plugins, err := required(ctx, req.GetInfo().GetProgramDirectory())
	if err != nil {
		return nil, err
	}
	res := &pulumirpc.GetRequiredPackagesResponse{}
	for _, p := range plugins {
		res.Packages = append(res.Packages, &pulumirpc.PackageDependency{
			Name: p.Name, Kind: "resource", Version: "v" + p.Version, Server: p.Server,
		})
	}
	return res, nil
}

// GetRequiredPlugins implements pulumirpc.LanguageRuntimeServer, for engines
// that do not know packages.
func (h *Host) GetRequiredPlugins(
	ctx context.Context, req *pulumirpc.GetRequiredPluginsRequest,
) (*pulumirpc.GetRequiredPluginsResponse, error) {
	plugins, err := required(ctx, req.GetInfo().GetProgramDirectory())
	if err != nil {
		return nil, err
	}
	res := &pulumirpc.GetRequiredPluginsResponse{}
	for _, p := range plugins {
		res.Plugins = append(res.Plugins, &pulumirpc.PluginDependency{
			Name: p.Name, Kind: "resource", Version: "v" + p.Version, Server: p.Server,
		})
	}
	return res, nil
}

// GetProgramDependencies implements pulumirpc.LanguageRuntimeServer.
func (h *Host) GetProgramDependencies(
	_ context.Context, req *pulumirpc.GetProgramDependenciesRequest,
) (*pulumirpc.GetProgramDependenciesResponse, error) {
	file, _, err := goMod(req.GetInfo().GetProgramDirectory())
	if err != nil {
		return nil, err
	}
	res := &pulumirpc.GetProgramDependenciesResponse{}
	for _, r := range file.Require {
		if r.Indirect && !req.GetTransitiveDependencies() {
			continue
		}
		res.Dependencies = append(res.Dependencies, &pulumirpc.DependencyInfo{Name: r.Mod.Path, Version: r.Mod.Version})
	}
	return res, nil
}

// InstallDependencies implements pulumirpc.LanguageRuntimeServer: it downloads
// the modules that are not in the module cache yet.
func (h *Host) InstallDependencies(
	req *pulumirpc.InstallDependenciesRequest, stream grpc.ServerStreamingServer[pulumirpc.InstallDependenciesResponse],
) error {
	tool, err := goTool()
	if err != nil {
		return err
	}
	ctx, end := h.begin(stream.Context())
	defer end()
	cmd := exec.CommandContext(ctx, tool, "mod", "download") //nolint:gosec // the tool is the user's own
	cmd.Dir = req.GetInfo().GetProgramDirectory()
	if said, err := output(cmd); err != nil {
		return fmt.Errorf("`go mod download` in %s failed: %w\n%s", cmd.Dir, err, said)
	}
	return stream.Send(&pulumirpc.InstallDependenciesResponse{Stdout: []byte("Finished installing dependencies\n")})
}

// required finds the plugins of the SDK modules in the program's go.mod.
func required(ctx context.Context, program string) ([]pluginFile, error) {
	file, dir, err := goMod(program)
	if err != nil {
		return nil, err
	}
	cache, err := moduleCache(ctx)
	if err != nil {
		return nil, err
	}
	replaced := map[string]modfile.Replace{}
	for _, r := range file.Replace {
		replaced[r.Old.Path+"@"+r.Old.Version] = *r
	}
	var plugins []pluginFile
	for _, r := range file.Require {
		mod, local := r.Mod, ""
		for _, key := range []string{mod.Path + "@" + mod.Version, mod.Path + "@"} {
			if with, ok := replaced[key]; ok {
				mod = with.New
				if mod.Version == "" {
					local = with.New.Path
				}
				break
			}
		}
		root := local
		switch {
		case local == "":
			if root, err = inCache(cache, mod); err != nil {
				return nil, err
			}
		case !filepath.IsAbs(local):
			root = filepath.Join(dir, local)
		}
		found, err := pluginOf(root, r.Mod)
		if err != nil {
			return nil, err
		}
		if found != nil {
			plugins = append(plugins, *found)
		}
	}
	return plugins, nil
}

// goMod reads the go.mod of the program's folder or the nearest one above.
func goMod(program string) (file *modfile.File, dir string, err error) {
	for dir = program; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "go.mod")
		text, err := os.ReadFile(path) //nolint:gosec // the user's own project
		if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("no go.mod for the program in %s: %w", program, err)
		}
		file, err := modfile.Parse(path, text, nil)
		if err != nil {
			return nil, "", fmt.Errorf("read %s: %w", path, err)
		}
		return file, dir, nil
	}
}

func moduleCache(ctx context.Context) (string, error) {
	tool, err := goTool()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, tool, "env", "GOMODCACHE").Output() //nolint:gosec // the tool is the user's own
	if err != nil {
		return "", fmt.Errorf("go env GOMODCACHE: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func inCache(cache string, mod module.Version) (string, error) {
	path, err := module.EscapePath(mod.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(mod.Version)
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, filepath.FromSlash(path)+"@"+version), nil
}

// pluginOf reads the module's pulumi-plugin.json from one of the places where
// SDKs have it; nil when the module needs no plugin.
func pluginOf(root string, mod module.Version) (*pluginFile, error) {
	for _, pattern := range []string{"pulumi-plugin.json", "go/pulumi-plugin.json", "go/*/pulumi-plugin.json"} {
		matches, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			return nil, err
		}
		for _, path := range matches {
			text, err := os.ReadFile(path) //nolint:gosec // a module's own file
			if err != nil {
				return nil, fmt.Errorf("plugin of %s: %w", mod, err)
			}
			var found pluginFile
			if err := json.Unmarshal(text, &found); err != nil {
				return nil, fmt.Errorf("plugin of %s: %s: %w", mod, path, err)
			}
			if !found.Resource {
				return nil, nil
			}
			if found.Name == "" || strings.TrimPrefix(found.Version, "v") == "" {
				return nil, fmt.Errorf("plugin of %s: %s names no plugin and version", mod, path)
			}
			found.Version = strings.TrimPrefix(found.Version, "v")
			return &found, nil
		}
	}
	return nil, nil
}
