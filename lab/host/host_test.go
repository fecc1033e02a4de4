package host

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// suited is a host that the lab can run on.
func suited() Facts {
	return Facts{
		OS:     "linux",
		Arch:   "amd64",
		Root:   true,
		Memory: 6 * gib,
		Free:   []Space{{"/cache", 30 * gib}, {"/state", 30 * gib}},
		Cold:   true,
	}
}

func TestASuitedHostIsAccepted(t *testing.T) {
	if err := suited().Check(); err != nil {
		t.Error(err)
	}
	warm := suited()
	warm.Cold, warm.Free = false, []Space{{"/cache", 7 * gib}}
	if err := warm.Check(); err != nil {
		t.Errorf("with everything built: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	const onlyRoot = "not root: the lab makes a machine, a bridge and a network namespace, which only root may: " +
		"run `sudo make up`"
	disk := func(free, need string) string {
		return free + " GiB free for /state: the lab needs " + need + " GiB there (6 GiB once everything is built) " +
			"and would evict its pods: free some, or put it elsewhere with XDG_CACHE_HOME and TINYRACK_LAB_STATE"
	}
	for name, test := range map[string]struct {
		change func(*Facts)
		want   []string
	}{
		"another system": {func(f *Facts) { f.OS, f.Root = "darwin", false }, []string{
			"this is darwin: the lab's machine shares the host's kernel, which must be Linux: " +
				"use a Linux host or virtual machine",
		}},
		"not root": {func(f *Facts) { f.Root = false }, []string{onlyRoot}},
		"another architecture": {func(f *Facts) { f.Arch = "arm64" }, []string{
			"architecture arm64: the lab's binaries and images are built for amd64 only: use an amd64 host",
		}},
		"another distribution": {func(f *Facts) { f.Distribution = errors.New("no Debian") }, []string{"no Debian"}},
		"little memory": {func(f *Facts) { f.Memory = minMemory - 1 }, []string{
			"5.5 GiB of memory: the cluster and the builds need 6 GiB and would be killed half way: use a larger host",
		}},
		"full disk":  {func(f *Facts) { f.Free[1].Free = 21.5 * gib }, []string{disk("21.5", "22")}},
		"full, warm": {func(f *Facts) { f.Cold, f.Free[1].Free = false, 5*gib }, []string{disk("5.0", "6")}},
		"all at once": {func(f *Facts) { f.Root, f.Arch, f.Memory, f.Free[1].Free = false, "riscv64", 0, 0 }, []string{
			onlyRoot, "architecture riscv64: the lab's binaries and images are built for amd64 only: use an amd64 host",
			"0.0 GiB of memory: the cluster and the builds need 6 GiB and would be killed half way: use a larger host",
			disk("0.0", "22"),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			facts := suited()
			test.change(&facts)
			err := facts.Check()
			if err == nil || err.Error() != strings.Join(test.want, "\n") {
				t.Errorf("got\n%v\nwant\n%s", err, strings.Join(test.want, "\n"))
			}
		})
	}
}

// The facts of the host under this test: a file system without free space, and one folder that will be made in another.
func TestLookMeasures(t *testing.T) {
	dir := t.TempDir()
	facts := Look(true, "/proc", dir, dir+"/not/yet/made")
	if facts.OS != "linux" || facts.Memory < gib/4 || len(facts.Free) != 3 {
		t.Fatalf("%+v", facts)
	}
	if facts.Free[0].Free != 0 || facts.Free[1].Free == 0 || facts.Free[2].Free == 0 {
		t.Errorf("free space %+v", facts.Free)
	}
}

func TestMissingTools(t *testing.T) {
	all := func(string) bool { return true }
	if got := missing(all, all); len(got) != 0 {
		t.Errorf("nothing is missing, but %v is to be installed", got)
	}
	got := missing(func(tool string) bool { return tool != "ip" && tool != "gcc" }, func(string) bool { return false })
	if want := []string{"gcc", "iproute2", "libc6-dev"}; !slices.Equal(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	calls := aptGet(got)
	want := [][]string{
		{"update", "--quiet"},
		{"install", "--quiet", "--yes", "--no-install-recommends", "gcc", "iproute2", "libc6-dev"},
	}
	if !slices.EqualFunc(calls, want, slices.Equal[[]string]) {
		t.Errorf("apt-get %v, want %v", calls, want)
	}
}
