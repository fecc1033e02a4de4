package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// What a site says of its k3s. An address that is not upstream's is somebody's own, and so is its checksum.
var (
	k3sVersion = regexp.MustCompile(`(?m)^    version: (v[0-9.]+\+k3s[0-9]+)$`)
	k3sBinary  = regexp.MustCompile(
		`url: (https://github\.com/k3s-io/k3s/releases/download/[^/\s]+/)(k3s[a-z0-9-]*)\n +sha256: "?([0-9a-f]*)"?\n`)
	k3sScript = regexp.MustCompile(
		`url: (https://raw\.githubusercontent\.com/k3s-io/k3s/[^/\s]+/)install\.sh\n +sha256: "?([0-9a-f]*)"?\n`)
)

// findK3s finds the addresses of k3s' binaries and of its install script in the settings of every site, with their
// checksums. Both follow cluster.version.
func findK3s(root string, u *upstream) ([]checksum, error) {
	paths, err := filepath.Glob(filepath.Join(root, "Pulumi.*.yaml"))
	if err != nil {
		return nil, err
	}
	var found []checksum
	for _, path := range paths {
		data, err := os.ReadFile(path) //nolint:gosec // the checkout's own files
		if err != nil {
			return nil, err
		}
		text, file := string(data), filepath.Base(path)
		binaries := k3sBinary.FindAllStringSubmatchIndex(text, -1)
		scripts := k3sScript.FindAllStringSubmatchIndex(text, -1)
		release := k3sVersion.FindStringSubmatch(text)
		if release == nil {
			if len(binaries)+len(scripts) > 0 {
				return nil, fmt.Errorf("%s: has the address of a k3s and no cluster.version: it is not known which", file)
			}
			continue
		}
		version := release[1]
		tag := url.QueryEscape(version)
		add := func(at []int, from string, now func(context.Context) (string, error)) {
			what := "k3s " + version + ", " + from
			said := func(context.Context) (string, error) { return from, nil }
			found = append(found,
				checksum{file: file, what: "address of " + what, from: at[0], to: at[1], now: said},
				checksum{file: file, what: what, from: at[2], to: at[3], now: now})
		}
		for _, at := range binaries {
			base, name := "https://github.com/k3s-io/k3s/releases/download/"+tag+"/", text[at[4]:at[5]]
			add([]int{at[2], at[5], at[6], at[7]}, base+name, func(ctx context.Context) (string, error) {
				return u.binarySum(ctx, base, name)
			})
		}
		for _, at := range scripts {
			from := "https://raw.githubusercontent.com/k3s-io/k3s/" + tag + "/install.sh"
			add([]int{at[2], at[3] + len("install.sh"), at[4], at[5]}, from, func(ctx context.Context) (string, error) {
				return u.sum(ctx, from)
			})
		}
	}
	return found, nil
}

// binarySum is the sha256 of a binary of a release, as the release's own list says and as the binary has it.
func (u *upstream) binarySum(ctx context.Context, base, name string) (string, error) {
	architecture := strings.TrimPrefix(strings.TrimPrefix(name, "k3s"), "-")
	switch architecture {
	case "":
		architecture = "amd64"
	case "armhf":
		architecture = "arm"
	}
	list := "sha256sum-" + architecture + ".txt"
	var text strings.Builder
	if err := u.fetch(ctx, base+list, &text); err != nil {
		return "", err
	}
	said := ""
	for line := range strings.Lines(text.String()) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[1] == name {
			said = fields[0]
		}
	}
	if said == "" {
		return "", fmt.Errorf("%s does not name %s: its checksum is not known", list, name)
	}
	got, err := u.sum(ctx, base+name)
	if err != nil {
		return "", err
	}
	if got != said {
		return "", fmt.Errorf("%s says %s and the binary is %s: neither is taken", list, said, got)
	}
	return said, nil
}

// sum is the sha256 of what is at the address.
func (u *upstream) sum(ctx context.Context, from string) (string, error) {
	hash := sha256.New()
	if err := u.fetch(ctx, from, hash); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// fetch writes what is at the address to w.
func (u *upstream) fetch(ctx context.Context, from string, w io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	response, err := u.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := refusal(response); err != nil {
		return err
	}
	if _, err := io.Copy(w, response.Body); err != nil {
		return fmt.Errorf("%s: broke off: %w", from, err)
	}
	return nil
}

// refusal is what an answer other than the wanted one means.
func refusal(response *http.Response) error {
	from := response.Request.URL.Redacted()
	switch response.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotFound:
		return fmt.Errorf("%s: is not there: was the version published under this name?", from)
	case http.StatusTooManyRequests:
		wait := response.Header.Get("Retry-After")
		if wait == "" {
			return fmt.Errorf("%s: was asked too often: try again later", from)
		}
		return fmt.Errorf("%s: was asked too often: try again after %s", from, wait)
	}
	return fmt.Errorf("%s: answers %s", from, response.Status)
}
