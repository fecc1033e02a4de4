package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// clean removes the lab, its cache, and the program that was built in the checkout.
func clean(ctx context.Context, at layout.Layout) error {
	if err := down(ctx, at); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(at.Cache), os.RemoveAll(filepath.Join(at.Checkout, ".bin")))
}
