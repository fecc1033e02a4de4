package k3s

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/s3"
)

// Snapshots sends etcd snapshots to S3, with the credentials that SnapshotCredentials gives.
type Snapshots struct {
	// Schedule is a cron expression of five fields, in the machine's time zone.
	Schedule string
	// Retention is how many snapshots are kept.
	Retention int
	// Endpoint is the S3 server's host, with a port when it is not the usual one, and without a scheme.
	Endpoint string
	Region   string
	Bucket   string
	// Folder is a prefix inside the bucket. Optional.
	Folder string
	// Insecure speaks http instead of https.
	Insecure bool
}

// Where k3s looks for its S3 settings at every snapshot: https://docs.k3s.io/cli/etcd-snapshot
const (
	SnapshotNamespace  = "kube-system"
	SnapshotSecretName = "k3s-etcd-s3-secret"                  //nolint:gosec // the name of a Secret, not one
	SnapshotSecretType = "etcd.k3s.cattle.io/s3-config-secret" //nolint:gosec // a type
)

// SnapshotCredentials returns the data of the Secret SnapshotNamespace/SnapshotSecretName. The two keys are secret.
func SnapshotCredentials(s *Snapshots, accessKey, secretKey pulumi.StringInput) map[string]pulumi.StringInput {
	data := map[string]pulumi.StringInput{
		"etcd-s3-endpoint":   pulumi.String(s.Endpoint),
		"etcd-s3-region":     pulumi.String(s.Region),
		"etcd-s3-bucket":     pulumi.String(s.Bucket),
		"etcd-s3-access-key": accessKey,
		"etcd-s3-secret-key": secretKey,
		"etcd-s3-insecure":   pulumi.String(strconv.FormatBool(s.Insecure)),
	}
	if s.Folder != "" {
		data["etcd-s3-folder"] = pulumi.String(s.Folder)
	}
	return data
}

var folderForm = regexp.MustCompile(`^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)?$`)

func (s *Snapshots) validate() error {
	const lost = "no snapshot would leave the machine"
	var problems []error
	refuse := func(format string, values ...any) {
		problems = append(problems, fmt.Errorf("snapshots."+format, values...))
	}
	if err := checkCron(s.Schedule); err != nil {
		refuse("schedule: %q is not a schedule (%w): k3s would not start: write five fields, like 0 */4 * * *", s.Schedule,
			err)
	}
	if s.Retention < 1 {
		refuse("retention: %d is below one: no snapshot would be kept: write how many to keep", s.Retention)
	}
	for _, problem := range (s3.Bucket{Endpoint: s.Endpoint, Region: s.Region, Name: s.Bucket}).Problems(lost) {
		refuse("%w", problem)
	}
	if !folderForm.MatchString(s.Folder) {
		refuse("folder: %q is not a folder: the snapshots would not be found again: use letters, digits, dots, hyphens and "+
			"single slashes between them", s.Folder)
	}
	return errors.Join(problems...)
}

var cronField = regexp.MustCompile(`^(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?$`)

// checkCron returns why expression is not five cron fields.
func checkCron(expression string) error {
	names := [5]string{"minute", "hour", "day", "month", "weekday"}
	low, high := [5]int{0, 0, 1, 1, 0}, [5]int{59, 23, 31, 12, 6}
	fields := strings.Fields(expression)
	if len(fields) != len(names) {
		return fmt.Errorf("%d fields", len(fields))
	}
	for i, field := range fields {
		for item := range strings.SplitSeq(field, ",") {
			m := cronField.FindStringSubmatch(item)
			if m == nil {
				return fmt.Errorf("%s %q", names[i], field)
			}
			from := low[i]
			for _, number := range m[1:3] {
				n, err := strconv.Atoi(number)
				if number != "" && (err != nil || n < from || n > high[i]) {
					return fmt.Errorf("%s %q", names[i], field)
				}
				from = n
			}
		}
	}
	return nil
}
