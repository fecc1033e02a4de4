package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func TestStatusWithoutALab(t *testing.T) {
	err := status(t.Context(), layout.Layout{State: filepath.Join(t.TempDir(), "none")})
	if err == nil || !strings.Contains(err.Error(), "start one with `make up`") {
		t.Errorf("got %v", err)
	}
}
