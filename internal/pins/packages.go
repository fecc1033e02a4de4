package main

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"strings"
)

// findPackages finds the hashes of packages for Node.js in the lab's catalog.
func findPackages(root string, u *upstream) ([]checksum, error) {
	catalogs, err := readCatalogs(root)
	if err != nil {
		return nil, err
	}
	var found []checksum
	for _, c := range catalogs {
		ast.Inspect(c.syntax, func(node ast.Node) bool {
			if elements := c.literals(node, "Package", 3); elements != nil {
				name, _ := c.text(elements[0])
				version, _ := c.text(elements[1])
				if value, literal := c.text(elements[2]); literal != nil {
					at := name + "@" + version
					found = append(found, c.at(literal, value, "package "+at, func(ctx context.Context) (string, error) {
						return u.packageSum(ctx, at)
					}))
				}
			}
			return true
		})
	}
	return found, nil
}

// packageSum is the hash of a package as its registry has it, and as what the registry gives has it.
func (u *upstream) packageSum(ctx context.Context, at string) (string, error) {
	dir, err := os.MkdirTemp("", "tinyrack-pin-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	out, err := u.run(ctx, dir, nil, "npm", "view", at, "dist.integrity")
	if err != nil {
		return "", err
	}
	said := strings.TrimSpace(string(out))
	if _, err := u.run(ctx, dir, nil, "npm", "pack", "--silent", "--pack-destination="+dir, at); err != nil {
		return "", err
	}
	packed, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(packed) != 1 {
		return "", fmt.Errorf("npm pack made %q: %w", packed, err)
	}
	archive, err := os.ReadFile(packed[0])
	if err != nil {
		return "", err
	}
	sum := sha512.Sum512(archive)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != said {
		return "", fmt.Errorf("the registry says %q and gives %s: neither is taken", said, got)
	}
	return said, nil
}
