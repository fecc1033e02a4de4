package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/authority"
	"github.com/tinyrack-net/infrastructure/lab/clouds"
	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/gitserver"
	"github.com/tinyrack-net/infrastructure/lab/host"
	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/preview"
	"github.com/tinyrack-net/infrastructure/lab/process"
	"github.com/tinyrack-net/infrastructure/lab/programs"
	"github.com/tinyrack-net/infrastructure/lab/progress"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
	"github.com/tinyrack-net/infrastructure/lab/s3"
	"github.com/tinyrack-net/infrastructure/lab/settings"
	"github.com/tinyrack-net/infrastructure/lab/site"
	"github.com/tinyrack-net/infrastructure/lab/summary"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/headscale"
)

// up takes this host from nothing to a running site. Every step looks first at what is there, so that a run after an
// interruption, or after none, does only what is missing.
func up(ctx context.Context, at layout.Layout) error {
	if len(at.Machines) == 0 {
		return fmt.Errorf("%s: the site that the lab holds is no more in this checkout: nothing was changed: bring its "+
			"files back, or take it down with `make down`", at.Settings)
	}
	report := progress.New(os.Stdout)
	if err := host.Look(!artifacts.Complete(at.Cache), at.Cache, at.State).Check(); err != nil {
		return err
	}
	release, err := host.New(layout.HostDir).Take(at, say)
	if err != nil {
		return err
	}
	defer release()
	plugins, err := pulumi.FindPlugins(at.Checkout, filepath.Join(programs.Dir(at), "plugins"))
	if err != nil {
		return err
	}
	say("plugins: %s (a double speaks the official plugin's protocol; see docs/lab.md)", plugins)
	cache, err := artifacts.Open(at.Cache)
	if err != nil {
		return err
	}
	l, err := open(at)
	if err != nil {
		return err
	}
	if err := report.Run(ctx, provisioning(l, cache, plugins, report)); err != nil {
		return err
	}
	return summary.Print(os.Stdout, at, l.stack, report)
}

// provisioning is everything from the host's tools to the cluster.
func provisioning(
	l *lab, cache *artifacts.Cache, plugins pulumi.Plugins, report *progress.Report,
) []progress.Task {
	// What the lab's own programs share with the site's, a fourth of it, is compiled once.
	var failed error
	ended := make(chan struct{})
	ownPrograms := func(ctx context.Context) (string, error) {
		select {
		case <-ended:
			return l.own, failed
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return []progress.Task{
		{Name: "host tools", Do: host.InstallTools},
		{Name: "lab programs", Beside: true, Do: func(ctx context.Context) error {
			progress.Waiting(ctx, "go build of the lab's plugins and tools")
			defer close(ended)
			failed = cache.Turn(ctx, func(ctx context.Context) (err error) {
				l.own, err = programs.Build(ctx, l.Layout)
				return err
			})
			return failed
		}},
		{Name: "program", Beside: true, Do: func(ctx context.Context) error {
			progress.Waiting(ctx, "go build of the Pulumi program")
			if _, err := ownPrograms(ctx); err != nil {
				return err
			}
			return cache.Turn(ctx, func(ctx context.Context) error { return preview.BuildProgram(ctx, l.Checkout) })
		}},
		{Name: "artifacts", Do: func(ctx context.Context) (err error) {
			l.set, err = cache.Build(ctx, report, ownPrograms)
			return err
		}},
		{Name: "network", Do: func(ctx context.Context) error { return machine.MakeNetwork(ctx, l.Layout) }},
		{Name: "tailnet control server", Do: func(ctx context.Context) error {
			if err := authority.Make(l.TLS(), layout.HostIP, clouds.Names...); err != nil {
				return err
			}
			return headscale.New(l.Layout, l.set.Headscale).Start(ctx, l.runner)
		}},
		{Name: "clouds and artifact server", Do: func(ctx context.Context) error {
			if err := clouds.Publish(ctx, l.Layout, l.set); err != nil {
				return err
			}
			return clouds.Start(ctx, l.Layout, l.runner, filepath.Join(l.own, "lab"))
		}},
		{Name: "operator's device", Beside: true, Do: func(ctx context.Context) error {
			control, err := headscale.New(l.Layout, "").Client()
			if err != nil {
				return err
			}
			return devices(l.Layout, l.set.Tailscale, control).Start(ctx, machine.Operator)
		}},
		{Name: "object storage", Do: func(ctx context.Context) error {
			return s3.Start(ctx, l.runner, l.set.S3Gateway, l.Buckets(), l.secrets)
		}},
		{Name: "git server", Do: func(ctx context.Context) error {
			return gitserver.New(l.Layout).Start(ctx, l.runner, l.set.Gitea, l.set.GiteaStatic, l.secrets)
		}},
		{Name: "machines", Beside: true, Do: func(ctx context.Context) error {
			if err := file.Write(l.MachineKey(), []byte(l.secrets.MachineKey), 0o600); err != nil {
				return err
			}
			for _, image := range l.set.Images {
				if err := file.Mirror(image, filepath.Join(l.Images(), filepath.Base(image)+".tar")); err != nil {
					return err
				}
			}
			// Those that left the settings, too: the program takes leave of them over SSH.
			return machine.Start(ctx, l.Layout, slices.Concat(l.Machines, l.Left()), l.set, l.secrets)
		}},
		{Name: "site repository", Do: func(ctx context.Context) error { return siteOf(l).Seed(ctx) }},
		{Name: "pulumi up", Joins: true, Do: func(ctx context.Context) error {
			filled, err := settings.Lab(l.Layout, l.stack, l.secrets, l.set, siteOf(l).Certificate())
			if err != nil {
				return err
			}
			if err := l.stack.Install(l.set.Pulumi, plugins); err != nil {
				return err
			}
			if err := errors.Join(l.stack.Configure(l.secrets.Passphrase, filled), l.stack.Init(ctx)); err != nil {
				return err
			}
			if err := siteOf(l).Fill(ctx, l.stack.Config()); err != nil {
				return err
			}
			return l.stack.Up(ctx)
		}},
		{Name: "machines that left", Do: func(ctx context.Context) error {
			var errs []error
			for _, m := range l.Left() {
				errs = append(errs, machine.New(l.Layout, m).Remove(ctx))
			}
			return errors.Join(errs...)
		}},
		{Name: "webhook", Do: func(ctx context.Context) error {
			url, urlErr := l.stack.Output(ctx, "webhookUrl")
			key, keyErr := l.stack.Output(ctx, "webhookSecret")
			if err := errors.Join(urlErr, keyErr); err != nil {
				return err
			}
			return gitserver.New(l.Layout).Webhook(ctx, l.secrets.GitToken, url, key)
		}},
		{Name: "kubeconfig", Do: func(ctx context.Context) error {
			kubeconfig, err := l.stack.Output(ctx, "kubeconfig")
			if err != nil {
				return err
			}
			return kubectl.Install(l.Layout, l.set.K3s, kubeconfig)
		}},
	}
}

// siteOf is the site once the git server has its token.
func siteOf(l *lab) *site.Site {
	return &site.Site{Layout: l.Layout, Token: l.secrets.GitToken, Kubeseal: l.set.Kubeseal}
}

// devices are those of the tailnet that are no machines. Program and tailnet are needed to start one alone.
func devices(l layout.Layout, program string, tailnet machine.Tailnet) *machine.Devices {
	return &machine.Devices{
		Dir: l.Devices(), Runner: process.New(l), Program: program, LoginServer: headscale.New(l, "").URL(), CA: l.CA(),
		Domain: layout.TailnetDomain, Tailnet: tailnet,
	}
}

// say prints a line for the person at this command.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
