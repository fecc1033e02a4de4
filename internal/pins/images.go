package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// indexTypes are manifests that name one manifest for each architecture. The digest of anything else would be that of
// one architecture, and no node of another could pull it.
var indexTypes = []string{
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
}

// imagesFile lists the images without a digest.
const imagesFile = "docs/images.md"

// maxAnswer is more than any manifest or token takes.
const maxAnswer = 4 << 20

// findImages finds the digests of images, by the managers that find their tags.
func findImages(root string, u *upstream) ([]checksum, error) {
	c, err := readConfiguration(root)
	if err != nil {
		return nil, err
	}
	versions, err := c.versions(root)
	if err != nil {
		return nil, err
	}
	var found []checksum
	for _, v := range versions {
		if v.datasource == "docker" && v.digest != "" {
			found = append(found, checksum{
				file: v.file, what: "image " + v.name + ":" + v.version, from: v.digestAt[0], to: v.digestAt[1],
				now: func(ctx context.Context) (string, error) { return u.imageDigest(ctx, v.name, v.version) },
			})
		}
	}
	return found, nil
}

// imageDigest is the digest of an image with all its architectures, as its registry has the tag now.
func (u *upstream) imageDigest(ctx context.Context, name, tag string) (string, error) {
	host, repository, _ := strings.Cut(name, "/")
	if host == "docker.io" {
		host = "registry-1.docker.io" // where the hub's API is
	}
	at := "https://" + host + "/v2/" + repository + "/manifests/" + tag
	response, err := u.get(ctx, at, "")
	if err != nil {
		return "", err
	}
	if response.StatusCode == http.StatusUnauthorized {
		_ = response.Body.Close() // only its header is wanted
		token, err := u.pullToken(ctx, response.Header.Get("WWW-Authenticate"), repository)
		if err != nil {
			return "", fmt.Errorf("%s: no token to pull with: %w", at, err)
		}
		if response, err = u.get(ctx, at, token); err != nil {
			return "", err
		}
	}
	defer response.Body.Close()
	if err := refusal(response); err != nil {
		return "", err
	}
	manifest, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("%s: broke off: %w", at, err)
	}
	sum := sha256.Sum256(manifest)
	digest, said := "sha256:"+hex.EncodeToString(sum[:]), response.Header.Get("Docker-Content-Digest")
	if said != digest {
		return "", fmt.Errorf("%s: the registry says %q and gives %s: neither is taken", at, said, digest)
	}
	if kind := response.Header.Get("Content-Type"); !slices.Contains(indexTypes, kind) {
		return "", fmt.Errorf("%s: is a manifest of one architecture (%s): nodes of another could not pull its digest",
			at, kind)
	}
	return digest, nil
}

// get asks a registry; token may be empty.
func (u *upstream) get(ctx context.Context, at, token string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", strings.Join(append(slices.Clone(indexTypes),
		"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"), ", "))
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return u.client.Do(request)
}

var challengePart = regexp.MustCompile(`(realm|service|scope)="([^"]*)"`)

// pullToken is what a registry wants that gives nothing to nobody: a token that everybody gets.
func (u *upstream) pullToken(ctx context.Context, challenge, repository string) (string, error) {
	parts := map[string]string{"scope": "repository:" + repository + ":pull"}
	for _, part := range challengePart.FindAllStringSubmatch(challenge, -1) {
		parts[part[1]] = part[2]
	}
	realm, err := url.Parse(parts["realm"])
	if err != nil || realm.Scheme != "https" || !strings.HasPrefix(challenge, "Bearer ") {
		return "", fmt.Errorf("it asks for %q, which is no address of https", challenge)
	}
	query := realm.Query()
	query.Set("scope", parts["scope"])
	if parts["service"] != "" {
		query.Set("service", parts["service"])
	}
	realm.RawQuery = query.Encode()
	var answer strings.Builder
	if err := u.fetch(ctx, realm.String(), &limited{&answer, maxAnswer}); err != nil {
		return "", err
	}
	// Some registries name it one way, some the other. What is answered is never shown.
	var got struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	if json.Unmarshal([]byte(answer.String()), &got) != nil || got.Token+got.Access == "" {
		return "", errors.New(realm.Host + " answers without a token")
	}
	if got.Token == "" {
		return got.Access, nil
	}
	return got.Token, nil
}

// limited refuses to be written more than is left.
type limited struct {
	io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errors.New("a longer answer than any token")
	}
	return l.Writer.Write(p)
}
