package main

import (
	"path/filepath"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func TestPulumiNeedsAPlaceForItsCache(t *testing.T) {
	if err := pulumiCommand(t.Context(), layout.Layout{Cache: filepath.Join("/proc", "none")}); err == nil {
		t.Error("a cache that cannot be made is no error")
	}
}
