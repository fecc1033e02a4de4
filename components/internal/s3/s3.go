// Package s3 checks the settings of a place in an S3 server.
package s3

import (
	"fmt"
	"regexp"
	"strings"
)

// Bucket is where copies go.
type Bucket struct {
	// Endpoint is the server's host, with a port when it is not the usual one, and without a scheme.
	Endpoint string
	Region   string
	Name     string
}

// URL is a server's address: of its endpoint, and whether it speaks http instead of https.
func URL(endpoint string, insecure bool) string {
	if insecure {
		return "http://" + endpoint
	}
	return "https://" + endpoint
}

var (
	endpointForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)
	bucketForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
)

// Problems are everything that is wrong with it, each beginning with the setting: endpoint, region or bucket. lost is
// what would come of a wrong one.
func (b Bucket) Problems(lost string) []error {
	var problems []error
	if !endpointForm.MatchString(b.Endpoint) {
		problems = append(problems, fmt.Errorf("endpoint: %q is not host[:port]: %s: leave out the scheme; plain HTTP is "+
			"insecure: true", b.Endpoint, lost))
	}
	if b.Region == "" || strings.ContainsAny(b.Region, " \t\n") {
		problems = append(problems, fmt.Errorf("region: %q is not a region: the S3 server would refuse the signature: write "+
			"the one it expects, often us-east-1 or auto", b.Region))
	}
	if !bucketForm.MatchString(b.Name) {
		problems = append(problems, fmt.Errorf("bucket: %q is not a bucket name: %s: use 3 to 63 lower-case letters, "+
			"digits, dots and hyphens", b.Name, lost))
	}
	return problems
}
