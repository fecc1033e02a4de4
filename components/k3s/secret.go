package k3s

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// SnapshotSecretArgs says where etcd snapshots go.
type SnapshotSecretArgs struct {
	// Endpoint is the S3 server's host, with a port when it is not the usual one,
	// and without a scheme.
	Endpoint string
	Region   string
	Bucket   string
	// Folder is a prefix inside the bucket. Optional.
	Folder string
	// Insecure speaks http instead of https.
	Insecure bool
	// AccessKey and SecretKey are secret.
	AccessKey pulumi.StringInput
	SecretKey pulumi.StringInput
	// DependsOn are resources that must be there first.
	DependsOn []pulumi.Resource
}

// SnapshotSecret is the Secret kube-system/k3s-etcd-s3-secret, which k3s reads at
// every snapshot. Its only child is <name>-secret. The kubernetes provider comes
// from the caller (pulumi.Providers).
type SnapshotSecret struct {
	pulumi.ResourceState

	// Done is what later steps depend on.
	Done []pulumi.Resource
}

// NewSnapshotSecret registers the Secret.
func NewSnapshotSecret(ctx *pulumi.Context, name string, args *SnapshotSecretArgs, opts ...pulumi.ResourceOption) (*SnapshotSecret, error) {
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("snapshot secret %q: %w", name, err)
	}
	s := &SnapshotSecret{}
	if err := ctx.RegisterComponentResource("tinyrack:k3s:SnapshotSecret", name, s, opts...); err != nil {
		return nil, fmt.Errorf("snapshot secret %q: %w", name, err)
	}
	data := pulumi.StringMap{
		"etcd-s3-endpoint":   pulumi.String(args.Endpoint),
		"etcd-s3-region":     pulumi.String(args.Region),
		"etcd-s3-bucket":     pulumi.String(args.Bucket),
		"etcd-s3-access-key": pulumi.ToSecret(args.AccessKey).(pulumi.StringOutput),
		"etcd-s3-secret-key": pulumi.ToSecret(args.SecretKey).(pulumi.StringOutput),
		"etcd-s3-insecure":   pulumi.String(fmt.Sprint(args.Insecure)),
	}
	if args.Folder != "" {
		data["etcd-s3-folder"] = pulumi.String(args.Folder)
	}
	secret, err := corev1.NewSecret(ctx, name+"-secret", &corev1.SecretArgs{
		Metadata: &metav1.ObjectMetaArgs{
			Namespace: pulumi.String("kube-system"),
			Name:      pulumi.String(SnapshotSecretName),
		},
		Type:       pulumi.String("etcd.k3s.cattle.io/s3-config-secret"),
		StringData: data,
	}, pulumi.Parent(s), pulumi.DependsOn(args.DependsOn))
	if err != nil {
		return nil, fmt.Errorf("snapshot secret %q: %w", name, err)
	}
	s.Done = []pulumi.Resource{secret}
	if err := ctx.RegisterResourceOutputs(s, pulumi.Map{}); err != nil {
		return nil, fmt.Errorf("snapshot secret %q: %w", name, err)
	}
	return s, nil
}

var bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// Validate returns every problem with the arguments.
func (a *SnapshotSecretArgs) Validate() error {
	var problems []error
	if a.Endpoint == "" || strings.Contains(a.Endpoint, "/") {
		problems = append(problems, fmt.Errorf("endpoint: %q: not a host: snapshots would not leave the machine: use host or host:port, without https://", a.Endpoint))
	}
	if a.Region == "" {
		problems = append(problems, errors.New("region: missing: the S3 server would refuse the signature: set the one it expects, often us-east-1 or auto"))
	}
	if !bucketForm.MatchString(a.Bucket) {
		problems = append(problems, fmt.Errorf("bucket: %q: not a bucket name: snapshots would not leave the machine: use 3 to 63 lower-case letters, digits, dots and hyphens", a.Bucket))
	}
	if strings.HasPrefix(a.Folder, "/") {
		problems = append(problems, fmt.Errorf("folder: %q: begins with a slash: snapshots would not be found again: leave it out", a.Folder))
	}
	if a.AccessKey == nil || a.SecretKey == nil {
		problems = append(problems, errors.New("accessKey, secretKey: missing: the S3 server would refuse snapshots: set both"))
	}
	return errors.Join(problems...)
}
