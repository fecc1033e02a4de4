package stacks

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tinyrack-net/infrastructure/components/flux"
	"github.com/tinyrack-net/infrastructure/components/machine"
)

func (s *stack) preflight() error {
	for _, name := range sortedKeys(s.hosts) {
		checked, err := machine.NewPreflight(s.ctx, "preflight-"+name, s.preflightArgs(name))
		if err != nil {
			return err
		}
		s.checked = append(s.checked, checked.Done...)
	}
	return nil
}

func (s *stack) preflightArgs(name string) *machine.PreflightArgs {
	args := &machine.PreflightArgs{
		Host:         s.hosts[name],
		Settings:     s.cfg.digest(),
		Join:         s.join(name),
		MinDiskGiB:   minDiskGiB,
		MinMemoryMiB: minMemoryMiB,
	}
	roles := s.cfg.Hosts[name].Roles
	switch {
	case slices.Contains(roles, roleServer):
		args.Role = machine.Server
	case slices.Contains(roles, roleAgent):
		args.Role = machine.Agent
	default:
		return args
	}
	args.ClusterCIDR, args.ServiceCIDR = s.cfg.Cluster.ClusterCIDR, s.cfg.Cluster.ServiceCIDR
	for _, arch := range sortedKeys(s.cfg.Cluster.Binaries) {
		binary := s.cfg.Cluster.Binaries[arch]
		args.Artifacts = append(args.Artifacts, machine.Artifact{
			Name: "k3s", Setting: "cluster.binaries", Arch: arch, URL: binary.URL, SHA256: binary.SHA256,
			Release: s.cfg.Cluster.Version,
		})
	}
	args.Artifacts = append(args.Artifacts, machine.Artifact{
		Name: "k3s-install", Setting: "cluster.installScript",
		URL: s.cfg.Cluster.InstallScript.URL, SHA256: s.cfg.Cluster.InstallScript.SHA256,
	})
	if name == s.cfg.firstServer() {
		git := s.fluxArgs()
		args.Git = machine.Git{
			URL: git.Sync.URL, Branch: git.Sync.Branch, Username: git.Git.Username, Token: git.Git.Token,
			SSHKey: git.Git.SSHKey, KnownHosts: git.Git.KnownHosts, CA: git.Git.CA,
		}
		args.Buckets, args.Looks = s.buckets(), s.looks(git.Sync)
	}
	return args
}

// looks are at what the clouds know better than the settings.
func (s *stack) looks(sync flux.Sync) []func(context.Context) error {
	f, secrets := s.cfg.Flux, s.cfg.Secrets
	login := flux.Login{
		Username: f.Username, Token: string(secrets.GitToken), SSHKey: string(secrets.GitSSHKey),
		KnownHosts: f.KnownHosts, CA: f.CA,
	}
	return []func(context.Context) error{
		func(ctx context.Context) error {
			return s.cloudflareAPI().LookAtZone(ctx, s.cfg.Cloudflare.ZoneID, s.cfg.Cloudflare.Zone)
		},
		func(ctx context.Context) error { return sync.Look(ctx, login) },
	}
}

// buckets are where copies of the cluster and of its databases go.
func (s *stack) buckets() []machine.Bucket {
	var buckets []machine.Bucket
	if to := s.cfg.Cluster.Snapshots; to != nil {
		buckets = append(buckets, machine.Bucket{
			Setting: "cluster.snapshots", Endpoint: to.Endpoint, Insecure: to.Insecure, Region: to.Region, Name: to.Bucket,
			AccessKey: s.cfg.Secrets.S3AccessKey.Output(), SecretKey: s.cfg.Secrets.S3SecretKey.Output(),
		})
	}
	if to := s.cfg.Backups; to != nil {
		buckets = append(buckets, machine.Bucket{
			Setting: "backups", Endpoint: to.Endpoint, Insecure: to.Insecure, Region: to.Region, Name: to.Bucket,
			AccessKey: s.cfg.Secrets.BackupsAccessKey.Output(), SecretKey: s.cfg.Secrets.BackupsSecretKey.Output(),
		})
	}
	return buckets
}

// digest changes with every setting, so that the preflight looks again. There is no secret in it.
func (c Config) digest() string {
	// Where a person keeps the certificate's file says nothing of a machine.
	c.SealedSecrets.Certificate = ""
	text, err := json.Marshal(c)
	if err != nil {
		panic("stacks: config that is no JSON: " + err.Error()) // a mistake in Config, caught by any test
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))[:16]
}
