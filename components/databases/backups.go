// Package databases is what the databases of the GitOps tree expect of the program: the place of their copies with its
// credentials, for volumes too, and the certificates by which the operator of PostgreSQL and its backup plugin know
// each other.
package databases

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/s3"
)

// Backups is where the databases send their copies, and what may.
type Backups struct {
	// Endpoint is the S3 server's host, with a port when it is not the usual one, and without a scheme.
	Endpoint string
	Region   string
	Bucket   string
	// Insecure speaks http instead of https.
	Insecure bool
	// Namespaces are those of the databases.
	Namespaces []string
	// Volumes says that Longhorn sends the copies of its volumes to the same bucket.
	Volumes bool
	// Incarnation counts how often the databases were made anew from their copies, beginning with 1. Each has a folder of
	// its own: two histories in one would be no copy of either.
	Incarnation int
}

// BackupSecretName is the Secret with the credentials in each of the namespaces.
const BackupSecretName = "backup-credentials" //nolint:gosec // the name of a Secret, not one

// Credentials returns the data of the Secret BackupSecretName. The two keys are secret.
func (b *Backups) Credentials(accessKey, secretKey pulumi.StringInput) map[string]pulumi.StringInput {
	return map[string]pulumi.StringInput{
		"access-key": accessKey, "secret-key": secretKey, "region": pulumi.String(b.Region),
	}
}

// Current is the incarnation of the databases that run, or are to be made.
func (b *Backups) Current() int { return max(1, b.Incarnation) }

// url is the S3 server's address.
func (b *Backups) url() string { return s3.URL(b.Endpoint, b.Insecure) }

// Variables are what the tree's manifests read of it. There is no secret among them.
func (b *Backups) Variables() map[string]string {
	usual := "443"
	if b.Insecure {
		usual = "80"
	}
	_, port, _ := strings.Cut(b.Endpoint, ":")
	return map[string]string{
		"backups_endpoint": b.url(), "backups_port": cmp.Or(port, usual),
		"backups_host": b.Endpoint, "backups_tls": strconv.FormatBool(!b.Insecure),
		"backups_bucket": b.Bucket, "backups_region": b.Region,
	}
}

// Origins is which incarnation of the databases there is, and from which one it comes.
type Origins struct {
	Incarnation int
	// From is 0 where nothing is restored.
	From int
}

// Variables are what the manifests of databases and applications read of it.
func (o Origins) Variables() map[string]string {
	from := "none"
	if o.From > 0 {
		from = strconv.Itoa(o.From)
	}
	return map[string]string{"incarnation": strconv.Itoa(o.Incarnation), "restore_from": from}
}

// Validate returns every problem with them, but for what is no namespace: that the Secrets in them tell.
func (b *Backups) Validate() error {
	bucket := s3.Bucket{Endpoint: b.Endpoint, Region: b.Region, Name: b.Bucket}
	problems := bucket.Problems("no copy would leave the cluster")
	if len(b.Namespaces) == 0 {
		problems = append(problems, errors.New("namespaces: none: no database would get the credentials: list those of the "+
			"databases, or leave the whole group out"))
	}
	if b.Incarnation < 0 {
		problems = append(problems, fmt.Errorf("incarnation: %d is below one: the databases would look for copies that "+
			"nobody made: leave it out, or count from 1", b.Incarnation))
	}
	for i, name := range b.Namespaces {
		if slices.Contains(b.Namespaces[:i], name) {
			problems = append(problems, fmt.Errorf("namespaces[%d]: %q is there twice: two resources would own one namespace: "+
				"remove one", i, name))
		}
	}
	return errors.Join(problems...)
}
