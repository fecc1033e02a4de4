package s3

import (
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/secret"
)

func TestArguments(t *testing.T) {
	spec := spec("/versitygw", "/state/s3", &secret.Secrets{S3AccessKey: "access", S3SecretKey: "secret"})
	want := []string{"/versitygw", "--port", "10.77.0.1:9000", "posix", "--sidecar", "/state/metadata-s3", "/state/s3"}
	if !slices.Equal(spec.Args, want) || spec.Name != "s3" {
		t.Errorf("%s runs %q, want %q", spec.Name, spec.Args, want)
	}
	if !slices.Equal(spec.Env, []string{"ROOT_ACCESS_KEY=access", "ROOT_SECRET_KEY=secret"}) {
		t.Error("the keys are not the lab's")
	}
	if strings.Contains(strings.Join(spec.Args, " "), "secret") {
		t.Error("a secret is in the arguments")
	}
}
