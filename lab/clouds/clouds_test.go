package clouds

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func TestServerProcess(t *testing.T) {
	got := spec(
		layout.Layout{State: "/state", Checkout: "/checkout", Cache: "/home/.cache/tinyrack-lab"},
		"/state/bin/lab-1",
	)
	if got.Name != "clouds" || !slices.Equal(got.Args, []string{"/state/bin/lab-1", "serve"}) || got.Dir != "/checkout" {
		t.Errorf("%s runs %q in %s", got.Name, got.Args, got.Dir)
	}
	// Without them it would serve another lab's state, or none.
	if want := []string{"TINYRACK_LAB_STATE=/state", "XDG_CACHE_HOME=/home/.cache"}; !slices.Equal(got.Env, want) {
		t.Errorf("it is told %q, want %q", got.Env, want)
	}
}

func TestPublish(t *testing.T) {
	l := layout.Layout{State: t.TempDir()}
	set := &artifacts.Set{RootFS: "/rootfs", Charts: "/charts", K3s: "/k3s", InstallScript: "/install.sh"}
	for _, release := range []*string{&set.CloudNativePG, &set.BarmanPlugin} {
		*release = filepath.Join(t.TempDir(), "release")
		if err := file.Write(filepath.Join(*release, "manifest.yaml"), []byte("kind: Thing\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := Publish(t.Context(), l, set); err != nil {
			t.Fatal(err)
		}
		set.K3s = "/newer"
	}
	for at, want := range map[string]string{
		"debs": "/rootfs/debs", "charts": "/charts", "k3s": "/newer", "install.sh": "/install.sh",
	} {
		if got, err := os.Readlink(filepath.Join(l.Served(), at)); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", at, got, err, want)
		}
	}
}

// Flux fetches a tag from the repository, as from upstream's, and apt a package with a plus sign in its name.
func TestTheArtifactServer(t *testing.T) {
	l := layout.Layout{State: t.TempDir()}
	release := filepath.Join(t.TempDir(), "release-1")
	for _, at := range []string{filepath.Join(release, "manifest.yaml"), filepath.Join(l.Served(), "debs", "a+b.deb")} {
		if err := file.Write(at, []byte("content\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := filepath.Join(l.Repositories(), "thing")
	for range 2 {
		if err := publishRepository(t.Context(), at, release, "v1.0.0"); err != nil {
			t.Fatal(err)
		}
	}
	upstream, err := repositories(l.Repositories())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(published(l, upstream))
	defer server.Close()
	clone := filepath.Join(t.TempDir(), "clone")
	url := server.URL + repositoriesPath + "/thing"
	out, err := git(t.Context(), "clone", "--quiet", "--depth=1", "--branch=v1.0.0", url, clone).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if text, err := os.ReadFile(filepath.Join(clone, "manifest.yaml")); err != nil || string(text) != "content\n" {
		t.Errorf("the repository holds %q, %v", text, err)
	}
	if out, err := git(t.Context(), "-C", clone, "push", "--quiet", url, "HEAD:other").CombinedOutput(); err == nil {
		t.Errorf("anybody can push to it: %s", out)
	}
	resp, err := http.Get(server.URL + "/debs/./a%2bb.deb")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a package with a plus sign: %s", resp.Status)
	}
}

func TestWhatAnEmulatedCloudHolds(t *testing.T) {
	for counts, want := range map[string]string{
		`{"tunnels":1,"keys":0}`: "",
		`{"tunnels":3,"keys":0,"devices":1}`: "the emulated Sky still holds 1 devices\n" +
			"the emulated Sky still holds 2 tunnels",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/lab/state" {
				http.NotFound(w, r)
				return
			}
			fmt.Fprintf(w, `{"counts":%s,"objects":{"secret":"shown to nobody"}}`, counts)
		}))
		addr := strings.TrimPrefix(server.URL, "http://")
		if text, err := State(t.Context(), addr); err != nil || string(text) != counts {
			t.Errorf("state %s (%v), want %s", text, err, counts)
		}
		err := empty(t.Context(), "Sky", addr, map[string]int{"tunnels": 1})
		if got := fmt.Sprint(err); (err == nil) != (want == "") || want != "" && got != want {
			t.Errorf("%s: got %v, want %q", counts, err, want)
		}
		server.Close()
		if _, err := State(t.Context(), addr); err == nil {
			t.Error("a cloud that does not run holds nothing, it seems")
		}
	}
}
