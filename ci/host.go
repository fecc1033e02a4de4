package main

import (
	"cmp"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/tinyrack-net/infrastructure/ci/githost"
)

// token is the access token of the git host, a secret; empty where there is none.
func token() string {
	return cmp.Or(os.Getenv("GIT_HOST_TOKEN"), os.Getenv("GITHUB_TOKEN"), os.Getenv("GITLAB_TOKEN"))
}

// gitHost is the host of the repository, from what its CI system says of itself, or a person in its place.
func gitHost() (*githost.Host, error) {
	kind, url, repository := os.Getenv("GIT_HOST"), os.Getenv("GIT_HOST_API"), os.Getenv("GIT_HOST_REPOSITORY")
	switch {
	case kind != "":
	case os.Getenv("GITLAB_CI") != "":
		kind = "gitlab"
	case os.Getenv("GITEA_ACTIONS") != "" || os.Getenv("FORGEJO_ACTIONS") != "":
		kind = "gitea"
	default:
		kind = "github"
	}
	url = cmp.Or(url, os.Getenv("CI_API_V4_URL"), os.Getenv("GITHUB_API_URL"))
	repository = cmp.Or(repository, os.Getenv("CI_PROJECT_PATH"), os.Getenv("GITHUB_REPOSITORY"))
	if url == "" || repository == "" || token() == "" {
		return nil, errors.New("whose pull request it is is not known: nothing can be told there: set GIT_HOST (gitea, " +
			"github or gitlab), GIT_HOST_API (the address of its API), GIT_HOST_REPOSITORY (owner/name) and GIT_HOST_TOKEN")
	}
	return githost.New(kind, url, repository, token(), &http.Client{Timeout: time.Minute})
}
