package artifacts

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/yaml"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/progress"
)

var goVersion = runtime.Version()

// Set is every finished artifact, by path on this machine.
type Set struct {
	Pulumi, K3s, Gitea, Kubeseal, S3Gateway string
	// Tailscale is the daemon and, when it is called tailscale, the command; or a folder of the two: see TailscaleProgram.
	Tailscale, Headscale string

	GiteaStatic      string // folder: Gitea's templates and options
	InstallScript    string // k3s' own install.sh
	ContainerdConfig string // template for a machine that may not lower oom_score_adj
	RootFS           string // folder: rootfs.tar, debs/
	Charts           string // folder: a Helm repository
	// CloudNativePG and BarmanPlugin are folders with the manifest of the release, where its repository has it.
	CloudNativePG, BarmanPlugin string
	Images                      []string
	PostgreSQL, MariaDB, Redis  string // versions of the lab's own

	// Own programs of the lab.
	Plugins, Flannel string
}

// Build makes what is missing and returns the paths of all. What comes of packages takes one processor or the network,
// so it is made beside the programs. ownPrograms waits for the folder of the lab's own.
func (c *Cache) Build(
	ctx context.Context, report *progress.Report, ownPrograms func(context.Context) (string, error),
) (*Set, error) {
	distribution, err := HostDistribution()
	if err != nil {
		return nil, err
	}
	var (
		built        map[string]string
		rootFS       string
		databases    Databases
		ghost        string
		all, besides = errgroup.WithContext(ctx)
	)
	beside := func(name, waits string, run func(ctx context.Context) error) {
		all.Go(func() error {
			return report.Step(besides, name, func(ctx context.Context) error {
				progress.Waiting(ctx, "%s", waits)
				return run(ctx)
			})
		})
	}
	beside("root filesystem", "mmdebstrap of "+distribution.Codename, func(ctx context.Context) (err error) {
		rootFS, err = c.RootFS(ctx, distribution)
		return err
	})
	beside("databases", "mmdebstrap of "+strings.Join(databasePackages, ", "), func(ctx context.Context) (err error) {
		databases, err = c.Databases(ctx, distribution)
		return err
	})
	beside("ghost", "npm pack and pnpm install of Ghost "+GhostVersion, func(ctx context.Context) (err error) {
		ghost, err = c.Ghost(ctx)
		return err
	})
	all.Go(func() (err error) {
		built, err = c.buildAll(besides, report)
		return err
	})
	if err := all.Wait(); err != nil {
		return nil, err
	}
	own, err := ownPrograms(ctx)
	if err != nil {
		return nil, err
	}
	set := &Set{
		Pulumi: built["pulumi"], K3s: built["k3s"], Gitea: built["gitea"], Kubeseal: built["kubeseal"],
		S3Gateway: built["versitygw"],
		Tailscale: built["tailscale"], Headscale: built["headscale"],
		Plugins: filepath.Join(own, "plugins"), Flannel: filepath.Join(own, "flannel"),
		RootFS: rootFS, PostgreSQL: databases.PostgreSQL, MariaDB: databases.MariaDB, Redis: databases.Redis,
	}
	if err := c.extracts(ctx, set); err != nil {
		return nil, err
	}
	if set.Charts, err = c.charts(ctx); err != nil {
		return nil, err
	}
	busybox, err := c.busybox(ctx, set.RootFS)
	if err != nil {
		return nil, err
	}
	manifests, err := c.fluxManifests(ctx)
	if err != nil {
		return nil, err
	}
	entrypoint, err := c.mariadbEntrypoint(ctx, databases.MariaDB)
	if err != nil {
		return nil, err
	}
	groups := [][]Image{databases.images(built[barmanPlugin.Name], entrypoint, ghost)}
	for _, image := range images(built, filepath.Join(own, "pause"), busybox, manifests) {
		groups = append(groups, []Image{image})
	}
	for _, group := range groups {
		path, err := c.Image(group...)
		if err != nil {
			return nil, err
		}
		set.Images = append(set.Images, path)
	}
	return set, nil
}

// PulumiCommand returns the path of the Pulumi command line, making it if it is missing.
func (c *Cache) PulumiCommand(ctx context.Context) (string, error) { return c.Program(ctx, pulumi) }

// Tailnet returns the paths of the tailnet's client and control server alone, making them if they are missing.
func (c *Cache) Tailnet(ctx context.Context) (client, control string, err error) {
	client, clientErr := c.Program(ctx, tailscale)
	control, controlErr := c.Program(ctx, headscale)
	return client, control, errors.Join(clientErr, controlErr)
}

// Benchmark returns the paths of kube-bench and of the folder with its checks, making them if they are missing.
func (c *Cache) Benchmark(ctx context.Context) (program, checks string, err error) {
	program, programErr := c.Program(ctx, kubeBench)
	checks, checksErr := c.make("kube-bench-checks", []any{kubeBenchModule, 1}, func(scratch string) error {
		src, err := kubeBenchModule.fetch(ctx)
		if err != nil {
			return err
		}
		return os.CopyFS(scratch, os.DirFS(filepath.Join(src, "cfg")))
	})
	return program, checks, errors.Join(programErr, checksErr)
}

// Kubeseal returns the path of kubeseal, making it if it is missing.
func (c *Cache) Kubeseal(ctx context.Context) (string, error) { return c.Program(ctx, kubeseal) }

// Act returns the path of act, making it if it is missing.
func (c *Cache) Act(ctx context.Context) (string, error) { return c.Program(ctx, act) }

// Complete tells whether every program is in the cache in dir. It changes nothing.
func Complete(dir string) bool {
	c, err := in(dir)
	return err == nil && !slices.ContainsFunc(binaries(), func(b Binary) bool { return !c.Has(b) })
}

// Turn compiles something among the programs: two at a time, for each takes gigabytes of memory.
func (c *Cache) Turn(ctx context.Context, compile func(context.Context) error) error {
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
		return compile(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Cache) buildAll(ctx context.Context, report *progress.Report) (map[string]string, error) {
	var (
		mu     sync.Mutex
		group  sync.WaitGroup
		errs   []error
		paths  = map[string]string{}
		making = map[string]int{}
	)
	// Downloads first: what comes of them takes a moment, or is known to be built.
	var downloads, builds []Binary
	for _, b := range binaries() {
		switch {
		case c.Has(b):
			path, err := c.Program(ctx, b)
			if err != nil {
				return nil, err
			}
			paths[b.Name] = path
		case c.offered(ctx, b):
			downloads = append(downloads, b)
		default:
			builds = append(builds, b)
		}
	}
	for waiting := slices.Concat(downloads, builds); len(waiting) > 0; {
		progress.Waiting(ctx, "%d of %d programs", len(waiting), len(binaries()))
		c.turns <- struct{}{}
		if ctx.Err() != nil {
			<-c.turns
			break
		}
		mu.Lock()
		i := next(waiting, making)
		b := waiting[i]
		waiting = slices.Delete(waiting, i, i+1)
		making[b.family()]++
		mu.Unlock()
		group.Go(func() {
			defer func() { <-c.turns }()
			verb := "build "
			if c.offered(ctx, b) {
				verb = "download "
			}
			var path string
			err := report.Step(ctx, verb+b.Name, func(ctx context.Context) (err error) {
				path, err = c.Program(ctx, b)
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			making[b.family()]--
			paths[b.Name] = path
			errs = append(errs, err)
		})
	}
	group.Wait()
	return paths, errors.Join(append(errs, ctx.Err())...)
}

// next is the place of the program to be made now: the first one of whose family none is being made, for two at a time
// would both compile what they share.
func next(waiting []Binary, making map[string]int) int {
	return max(0, slices.IndexFunc(waiting, func(b Binary) bool { return making[b.family()] == 0 }))
}

// extracts takes the files that the lab needs out of the modules.
func (c *Cache) extracts(ctx context.Context, set *Set) error {
	var err error
	take := func(to *string, name string, m Module, layout int, build func(src, scratch string) error) {
		if err != nil {
			return
		}
		*to, err = c.make(name, []any{m, layout}, func(scratch string) error {
			src, err := m.fetch(ctx)
			if err != nil {
				return err
			}
			return build(src, scratch)
		})
	}
	take(&set.GiteaStatic, "gitea-static", giteaModule, 1, func(src, scratch string) error {
		for _, dir := range []string{"options", "templates", "public"} {
			if err := os.CopyFS(filepath.Join(scratch, dir), os.DirFS(filepath.Join(src, dir))); err != nil {
				return err
			}
		}
		return nil
	})
	take(&set.InstallScript, "install.sh", k3sModule, 1, func(src, scratch string) error {
		return file.Copy(filepath.Join(src, "install.sh"), scratch, 0o644)
	})
	take(&set.ContainerdConfig, "containerd-config", k3sModule, 2, containerdConfig)
	take(&set.CloudNativePG, "cloudnative-pg-release", cnpgModule, 1, func(src, scratch string) error {
		release := "cnpg-" + strings.TrimPrefix(CloudNativePGVersion, "v") + ".yaml"
		return file.Copy(filepath.Join(src, "releases", release), filepath.Join(scratch, "releases", release), 0o644)
	})
	take(&set.BarmanPlugin, "plugin-barman-cloud-release", barmanPluginModule, 1, func(src, scratch string) error {
		return file.Copy(filepath.Join(src, "manifest.yaml"), filepath.Join(scratch, "manifest.yaml"), 0o644)
	})
	return err
}

// containerdConfig derives the template of containerd's configuration from k3s' own: without CAP_SYS_RESOURCE runc
// cannot lower oom_score_adj, and the only switch for that stands in a section of the template that cannot be extended
// from outside. The one field that the release before does not know is left out: it is off by default.
func containerdConfig(src, scratch string) error {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(src, "pkg", "agent", "templates",
		"templates_linux.go"), nil, 0)
	if err != nil {
		return err
	}
	template := ""
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == "ContainerdConfigTemplate" {
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				template, err = strconv.Unquote(lit.Value)
			}
		}
		return true
	})
	for old, replacement := range map[string]string{
		"{{- if .IsRunningInUserNS }}":                                       "{{- if true }}",
		"  device_ownership_from_security_context = {{ .NonrootDevices }}\n": "",
	} {
		if err != nil || strings.Count(template, old) != 1 {
			return fmt.Errorf("k3s' containerd template is not as expected: %w", err)
		}
		template = strings.Replace(template, old, replacement, 1)
	}
	return os.WriteFile(scratch, []byte(template), 0o644) //nolint:gosec // goes onto the machine
}

var digestLine = regexp.MustCompile(`(?m)^\s*digest: .*\n`)

// fluxManifests is the part of the operator's data that installs the one Flux version of the lab, without the digests
// of the upstream images: the lab's images are its own.
func (c *Cache) fluxManifests(ctx context.Context) (string, error) {
	return c.make("flux-manifests", []any{fluxOperatorModule, FluxVersion, 1}, func(scratch string) error {
		src, err := fluxOperatorModule.fetch(ctx)
		if err != nil {
			return err
		}
		data := filepath.Join(src, "config", "data")
		for _, dir := range []string{"flux", "flux-images"} {
			if err := os.CopyFS(filepath.Join(scratch, dir, FluxVersion), os.DirFS(filepath.Join(data, dir,
				FluxVersion))); err != nil {
				return err
			}
		}
		lists, err := filepath.Glob(filepath.Join(scratch, "flux-images", FluxVersion, "*.yaml"))
		if err != nil {
			return err
		}
		for _, path := range lists {
			text, err := os.ReadFile(path) //nolint:gosec // our scratch folder
			if err != nil {
				return err
			}
			// CopyFS keeps the read-only mode of the module cache.
			if err := errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, //nolint:gosec // public data
				digestLine.ReplaceAll(text, nil), 0o644)); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(scratch, "flux-images", "VERSION"), //nolint:gosec // public data
			[]byte(FluxVersion+"\n"), 0o644)
	})
}

// mariadbEntrypoint is the script with which MariaDB's image starts it: its operator's module has that of each release.
func (c *Cache) mariadbEntrypoint(ctx context.Context, version string) (string, error) {
	release := version[:strings.LastIndex(version, ".")]
	return c.make("mariadb-entrypoint", []any{mariadbModule, release}, func(scratch string) error {
		src, err := mariadbModule.fetch(ctx)
		if err != nil {
			return err
		}
		scripts := filepath.Join(src, "pkg", "embed", "mariadb-docker")
		return file.Copy(filepath.Join(scripts, release, "docker-entrypoint.sh"), scratch, 0o755)
	})
}

// charts is the Helm repository that the cluster asks.
func (c *Cache) charts(ctx context.Context) (string, error) {
	return c.make("charts", []any{sealedSecretsModule, metallbModule, mariadbModule, 1}, func(scratch string) error {
		sealedSecrets, sealedErr := sealedSecretsModule.fetch(ctx)
		metallb, metallbErr := metallbModule.fetch(ctx)
		mariadb, mariadbErr := mariadbModule.fetch(ctx)
		if err := errors.Join(sealedErr, metallbErr, mariadbErr); err != nil {
			return err
		}
		// As upstream packs it: with the chart of the kinds inside.
		whole := scratch + ".mariadb"
		defer os.RemoveAll(whole)
		charts := filepath.Join(mariadb, "deploy", "charts")
		if err := errors.Join(os.RemoveAll(whole), os.CopyFS(whole, os.DirFS(filepath.Join(charts, "mariadb-operator"))),
			os.CopyFS(filepath.Join(whole, "charts", "mariadb-operator-crds"),
				os.DirFS(filepath.Join(charts, "mariadb-operator-crds")))); err != nil {
			return err
		}
		return helmRepository(scratch, filepath.Join(sealedSecrets, "helm", "sealed-secrets"),
			filepath.Join(metallb, "charts", "metallb"), whole)
	})
}

// helmRepository packs the charts and their index into dir.
func helmRepository(dir string, charts ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries := map[string]any{}
	for _, chart := range charts {
		meta, err := packChart(dir, chart)
		if err != nil {
			return err
		}
		entries[fmt.Sprint(meta["name"])] = []any{meta}
	}
	index, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "entries": entries})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "index.yaml"), index, 0o644) //nolint:gosec // served to the cluster
}

// packChart packs a chart into dir and returns its entry of the index.
func packChart(dir, chart string) (map[string]any, error) {
	text, err := os.ReadFile(filepath.Join(chart, "Chart.yaml")) //nolint:gosec // the verified module
	if err != nil {
		return nil, err
	}
	var meta map[string]any
	if err := yaml.Unmarshal(text, &meta); err != nil {
		return nil, err
	}
	name := fmt.Sprint(meta["name"])
	archive := fmt.Sprintf("%s-%s.tgz", name, meta["version"])
	f, err := os.Create(filepath.Join(dir, archive)) //nolint:gosec // our scratch folder
	if err != nil {
		return nil, err
	}
	defer f.Close()
	zw := gzip.NewWriter(f)
	w := tar.NewWriter(zw)
	if err := errors.Join(addTree(w, name, chart), w.Close(), zw.Close()); err != nil {
		return nil, err
	}
	sum, err := SHA256(f.Name())
	if err != nil {
		return nil, err
	}
	meta["urls"], meta["digest"] = []string{archive}, sum
	return meta, nil
}
