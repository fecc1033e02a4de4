package s3

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestProblems(t *testing.T) {
	valid := Bucket{Endpoint: "storage.example.com:9000", Region: "us-east-1", Name: "copies"}
	if problems := valid.Problems("lost"); problems != nil {
		t.Errorf("refused: %v", problems)
	}
	if problems := (Bucket{Endpoint: "10.0.0.1", Region: "auto", Name: "a.b-1"}).Problems("lost"); problems != nil {
		t.Errorf("refused: %v", problems)
	}
	for _, tt := range []struct{ setting, value string }{
		{"endpoint", "https://storage.example.com"},
		{"endpoint", ""},
		{"endpoint", "host:port"},
		{"endpoint", "a b"},
		{"region", ""},
		{"region", "us east"},
		{"bucket", "Copies"},
		{"bucket", "ab"},
		{"bucket", ""},
		{"bucket", "a/b/c"},
	} {
		b := valid
		switch tt.setting {
		case "endpoint":
			b.Endpoint = tt.value
		case "region":
			b.Region = tt.value
		default:
			b.Name = tt.value
		}
		err := errors.Join(b.Problems("nothing would arrive")...)
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("%s: %q is ", tt.setting, tt.value)) {
			t.Errorf("%s %q: %v", tt.setting, tt.value, err)
		}
		if tt.setting != "region" && !strings.Contains(err.Error(), "nothing would arrive") {
			t.Errorf("%v does not say what would come of it", err)
		}
	}
}
