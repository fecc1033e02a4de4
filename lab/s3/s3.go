// Package s3 is a real S3 server with the bucket for etcd's snapshots.
package s3

import (
	"context"
	"os"
	"path/filepath"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// Start starts the server, whose buckets are the folders of dir.
func Start(ctx context.Context, runner process.Runner, program, dir string, secrets *secret.Secrets) error {
	for _, folder := range []string{
		filepath.Join(dir, layout.Bucket), filepath.Join(dir, layout.BackupBucket), metadata(dir),
	} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	return runner.Start(ctx, spec(program, dir, secrets))
}

// metadata is where what belongs to the objects is kept: without it no upload of several parts can be completed.
// Its path may not begin with dir's.
func metadata(dir string) string {
	return filepath.Join(filepath.Dir(dir), "metadata-"+filepath.Base(dir))
}

func spec(program, dir string, secrets *secret.Secrets) process.Spec {
	return process.Spec{
		Name: layout.S3Process, Args: []string{program, "--port", layout.S3Addr, "posix", "--sidecar", metadata(dir), dir},
		Env:   []string{"ROOT_ACCESS_KEY=" + secrets.S3AccessKey, "ROOT_SECRET_KEY=" + secrets.S3SecretKey},
		Ready: process.Answers("http://" + layout.S3Addr + "/"),
	}
}
