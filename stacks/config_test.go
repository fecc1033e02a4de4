package stacks

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/tinyrack-net/infrastructure/internal/golden"
)

func fixtures(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no fixtures in %s: %v", dir, err)
	}
	return paths
}

func minimal(t testing.TB) stackFile {
	t.Helper()
	return readStackFile(t, "testdata/valid/minimal.yaml")
}

// Each valid fixture has beside it, in testdata/decoded, all that the program takes from it. Another stack's file
// stands in the same checkout.
func TestValidFixtures(t *testing.T) {
	root := newRoot(t, "test")
	neighbour := stackFile{Config: map[string]any{}}
	neighbour.set("cloudflare.tunnel", "neighbour")
	neighbour.set("flux.path", "./clusters/neighbour")
	neighbour.set("hosts.<name>.address", "192.0.2.99")
	text, err := yaml.Marshal(neighbour.over(minimal(t)))
	must(err)
	must(os.WriteFile(filepath.Join(root, "Pulumi.neighbour.yaml"), text, 0o600))
	schema := compile(t, schemaOfSettings(t))
	for _, path := range fixtures(t, "valid") {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			f := readStackFile(t, path).over(minimal(t))
			if err := schema.Validate(f.document()); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
			cfg, err := Load(f.source("test", root))
			if err != nil {
				t.Fatal(err)
			}
			got := decoded(cfg)
			if name := leaks(got); name != "" {
				t.Errorf("it shows %s", name)
			}
			golden.Check(t, testdata, filepath.Join("decoded", name), got)
		})
	}
}

// decoded is all that was read, without what is empty. A secret shows that it is there.
func decoded(c Config) string {
	text, err := json.Marshal(struct {
		Config
		Secrets Secrets `json:"secrets"`
		// What the files hold that settings name.
		Certificate string `json:"certificate"`
		Policy      string `json:"policy"`
	}{c, c.Secrets, c.SealedSecrets.PEM, string(c.Tailnet.Rest)})
	must(err)
	var all map[string]any
	must(json.Unmarshal(text, &all))
	text, err = yaml.Marshal(withoutEmpty(all))
	must(err)
	return string(text)
}

func withoutEmpty(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if inner == nil || inner == "" || inner == Secret("").String() {
				delete(value, key)
				continue
			}
			value[key] = withoutEmpty(inner)
		}
	case []any:
		for i := range value {
			value[i] = withoutEmpty(value[i])
		}
	case string:
		if value == newMaterial()["certificate"] {
			return "[certificate]" // another one in each run
		}
	}
	return value
}

// Each invalid fixture has the whole message beside it. UPDATE_GOLDEN=1 writes
// them.
func TestInvalidFixtures(t *testing.T) {
	for _, path := range fixtures(t, "invalid") {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			src := readStackFile(t, path).over(minimal(t)).source("test", newRoot(t, "test"))
			cfg, err := Load(src)
			var report *Report
			if !errors.As(err, &report) || fmt.Sprint(cfg) != fmt.Sprint(Config{}) {
				t.Fatalf("accepted: %v", err)
			}
			if name := leaks(err.Error()); name != "" {
				t.Errorf("the message shows %s", name)
			}
			for _, problem := range report.Problems {
				if strings.Count(problem, ": ") < 3 {
					t.Errorf("not key: problem: consequence: fix: %s", problem)
				}
			}
			golden.Check(t, testdata, strings.TrimSuffix(strings.TrimPrefix(path, "testdata/"), ".yaml")+".txt", err.Error())
		})
	}
}

// What looks like a secret in a wrong place is not shown either.
func TestMisplacedSecretsAreNotShown(t *testing.T) {
	for _, path := range fixtures(t, "invalid") {
		text, err := os.ReadFile(strings.TrimSuffix(path, ".yaml") + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{"a-token-", "me:password"} {
			if strings.Contains(string(text), token) {
				t.Errorf("%s shows %q", path, token)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	root := newRoot(t, "test")
	cfg, err := Load(minimal(t).source("test", root))
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]any{
		"stack":                {cfg.Stack, "test"},
		"default port":         {cfg.Hosts["node"].Port, 22},
		"default user":         {cfg.Hosts["node"].User, "root"},
		"default protection":   {cfg.Protect, true},
		"default branch":       {cfg.Flux.Branch, "main"},
		"default git user":     {cfg.Flux.Username, "git"},
		"default tailnet":      {cfg.Tailnet.Name, "-"},
		"default tag":          {cfg.Tailnet.ManagerTag, "tag:tinyrack"},
		"default MagicDNS":     {cfg.Tailnet.MagicDNS, true},
		"no snapshots":         {cfg.Cluster.Snapshots == nil, true},
		"nested setting":       {cfg.Cluster.Binaries["amd64"].URL, "https://example.com/k3s"},
		"certificate's text":   {cfg.SealedSecrets.PEM, newMaterial()["certificate"]},
		"secret":               {string(cfg.Secrets.GitToken), newMaterial()["git-token"]},
		"PEM keeps its end":    {string(cfg.Secrets.SealingKey), newMaterial()["sealing-key"]},
		"optional secret":      {cfg.Secrets.S3AccessKey.Optional(), nil},
		"facts, environment":   {facts(cfg)["environment"], "test"},
		"facts, zone":          {facts(cfg)["zone"], "example.com"},
		"facts, cluster CIDR":  {facts(cfg)["cluster_cidr"], "10.55.0.0/16"},
		"facts, service CIDR":  {facts(cfg)["service_cidr"], "10.56.0.0/16"},
		"variables have facts": {len(variables(cfg)), 7},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
		}
	}

	src := minimal(t).source("test", root)
	src.Values["tinyrack:gitToken"] = " \n" + src.Values["tinyrack:gitToken"] + "\n"
	src.SecretKeys = nil // a language host that does not tell
	if cfg, err = Load(src); err != nil || string(cfg.Secrets.GitToken) != newMaterial()["git-token"] {
		t.Errorf("got %q, %v", string(cfg.Secrets.GitToken), err)
	}

	ssh := readStackFile(t, "testdata/valid/ssh.yaml").over(minimal(t)).source("test", root)
	if cfg, err = Load(ssh); err != nil || cfg.Flux.URL != "ssh://git@git.example.com/owner/repository.git" {
		t.Errorf("got %q, %v", cfg.Flux.URL, err)
	}
}

// TestHostnames shows by which address an application knows itself, in the program and in the checks of the tree alike.
func TestHostnames(t *testing.T) {
	var list struct {
		Routes    []Route           `json:"routes"`
		Variables map[string]string `json:"variables"`
	}
	text, err := os.ReadFile("../gitops/testdata/hostnames.yaml")
	if err == nil {
		err = yaml.UnmarshalStrict(text, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := hostnames(list.Routes); len(got) == 0 || !maps.Equal(got, list.Variables) {
		t.Errorf("got %v, want %v", got, list.Variables)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	cfg, err := Load(minimal(t).source("test", newRoot(t, "test")))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(struct {
		Config
		Secrets Secrets
	}{cfg, cfg.Secrets})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v", cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), string(data)} {
		if name := leaks(text); name != "" {
			t.Errorf("printing the configuration shows %s", name)
		}
	}
}

func TestEnvironmentMustBeJSON(t *testing.T) {
	t.Setenv("TINYRACK_TEST", `{"tinyrack:gitToken": canary}`)
	var into map[string]string
	if err := unmarshalEnv("TINYRACK_TEST", &into); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}

func TestDidYouMean(t *testing.T) {
	for name, want := range map[string]string{
		"cloudfare": `"cloudflare"`, "Flux": `"flux"`, "zebra": "remove it", "abcd": "remove it", "abcx": `"flux"`,
		"hoxt": `"host"`, // as near as "hoot", which comes later
	} {
		got := didYouMean(name, []string{"cloudflare", "flux", "host", "hoot"}, "remove it")
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for pair, want := range map[[2]string]int{
		{"", ""}: 0, {"abc", ""}: 3, {"", "abc"}: 3, {"abc", "abc"}: 0, {"abc", "adc"}: 1, {"abc", "ac"}: 1, {"ac", "abc"}: 1,
		{"ab", "ba"}: 2, {"flaw", "lawn"}: 2, {"kitten", "sitting"}: 3, {"sunday", "saturday"}: 3,
	} {
		if got := editDistance(pair[0], pair[1]); got != want {
			t.Errorf("%q: %d, want %d", pair, got, want)
		}
	}
}

func TestSecretSaysWhetherItIsThere(t *testing.T) {
	for secret, want := range map[Secret]string{"": "[no secret]", "canary": "[secret]"} {
		if got := fmt.Sprint(secret); got != want {
			t.Errorf("printed as %s, want %s", got, want)
		}
	}
}

// One problem of any kind is enough, and no two of them cancel out.
func TestReportIsEmptyWithoutAny(t *testing.T) {
	if r := (&Report{}); !r.empty() {
		t.Error("nothing is a problem")
	}
	one := []string{"one"}
	for _, r := range []*Report{
		{Problems: one},
		{Facts: one},
		{Secrets: one},
		{Problems: one, Facts: one},
		{Problems: one, Secrets: one},
		{Facts: one, Secrets: one},
	} {
		if r.empty() {
			t.Errorf("%+v is no problem", r)
		}
	}
}

// What could not be understood is said once, but hides no setting that is merely called alike.
func TestUnreadSettings(t *testing.T) {
	r := &Report{unread: []string{"tinyrack:flux"}}
	for key, want := range map[string]bool{
		"tinyrack:flux": true, "tinyrack:flux.url": true, "tinyrack:flux[0]": true,
		"tinyrack:fluxion": false, "tinyrack": false,
	} {
		if got := r.isUnread(key); got != want {
			t.Errorf("%s: %t, want %t", key, got, want)
		}
	}
}

func TestTwoValuesAreNoSetting(t *testing.T) {
	src := minimal(t).source("test", newRoot(t, "test"))
	src.Values["tinyrack:sealedSecrets"] += " {}"
	_, err := Load(src)
	if err == nil || !strings.Contains(err.Error(), "tinyrack:sealedSecrets: a text, wanted a group") {
		t.Errorf("got %v", err)
	}
}

func TestServersBeginWithTheFirst(t *testing.T) {
	c := Config{Hosts: map[string]Host{}}
	for _, name := range []string{"a", "b", "c", "d"} {
		c.Hosts[name] = Host{Roles: []string{roleServer}}
	}
	for first, want := range map[string]string{
		"": "[a b c d]", "a": "[a b c d]", "b": "[b a c d]", "d": "[d a b c]", "nobody": "[a b c d]",
	} {
		c.Cluster.FirstServer = first
		if got := fmt.Sprint(c.servers()); got != want {
			t.Errorf("first %q: %s, want %s", first, got, want)
		}
	}
}

// TestANeighboursSettings loads a stack beside another one whose file it was copied from.
func TestANeighboursSettings(t *testing.T) {
	root := newRoot(t, "test")
	text, err := yaml.Marshal(minimal(t))
	must(err)
	must(os.WriteFile(filepath.Join(root, "Pulumi.other.yaml"), text, 0o600))
	must(os.WriteFile(filepath.Join(root, "Pulumi.broken.yaml"), []byte("config: ["), 0o600))
	must(os.WriteFile(filepath.Join(root, "Pulumi.test.yaml"), text, 0o600))
	_, err = Load(minimal(t).source("test", root))
	var report *Report
	want := []string{
		`tinyrack:cloudflare.tunnel: "site" is the tunnel of stack other: the two would take each other's visitors: ` +
			`write this stack's own`,
		`tinyrack:flux.path: "./clusters/test" is what stack other applies: the two would be one site: write this stack's own`,
		`tinyrack:hosts.node.address: "192.0.2.10" is that of node in stack other: the machine would be held by whichever ` +
			`came first: write this stack's own`,
	}
	if !errors.As(err, &report) || !slices.Equal(report.Problems, want) {
		t.Errorf("got %v", err)
	}
	other := minimal(t)
	group := func(name string) map[string]any {
		g, _ := other.Config[project+":"+name].(map[string]any)
		return g
	}
	group("cloudflare")["tunnel"], group("flux")["path"] = "another", "./clusters/other"
	node, _ := group("hosts")["node"].(map[string]any)
	node["address"] = "192.0.2.11"
	text, err = yaml.Marshal(other)
	must(err)
	must(os.WriteFile(filepath.Join(root, "Pulumi.other.yaml"), text, 0o600))
	if _, err := Load(minimal(t).source("test", root)); err != nil {
		t.Errorf("a site of its own: %v", err)
	}
}

// TestTheTextOfAFile is about what is gone by the time Pulumi hands the settings over.
func TestTheTextOfAFile(t *testing.T) {
	const number = ": a number with a leading zero, a base or an exponent: YAML reads another one than stands there: " +
		"write it in digits alone, or in quotes where a text is wanted"
	for text, want := range map[string][]string{
		"config: {'tinyrack:hosts': {node: {port: 022}}}":   {"tinyrack:hosts.node.port" + number},
		"config: {'tinyrack:hosts': {node: {port: 1e3}}}":   {"tinyrack:hosts.node.port" + number},
		"config: {'tinyrack:hosts': {node: {port: 0x16}}}":  {"tinyrack:hosts.node.port" + number},
		"config: {'tinyrack:tailnet': {admins: [022, a]}}":  {"tinyrack:tailnet.admins[0]" + number},
		"config: {'tinyrack:hosts': {node: {port: '022'}}}": nil,
		"config: {'tinyrack:hosts': {node: {port: 2222}}}":  nil,
		"config: {'other:hosts': {port: 022}}":              nil,
		"config: [":                                         nil, "[a]": nil, "": nil, // another one's business
		"encryptionsalt: v1:a\nsecretsprovider: a\nencryptedkey: a\nenvironment: []\nconfig: {}": nil,
		"confg: {}\nflux: {}": {
			`confg: unknown at the top of Pulumi.test.yaml: Pulumi passes over it in silence: did you mean "config"?`,
			`flux: unknown at the top of Pulumi.test.yaml: Pulumi passes over it in silence: move it below config, or remove it`,
		},
	} {
		root := newRoot(t, "test")
		must(os.WriteFile(filepath.Join(root, "Pulumi.test.yaml"), []byte(text), 0o600))
		_, err := Load(minimal(t).source("test", root))
		var report *Report
		if errors.As(err, &report) != (want != nil) || report != nil && !slices.Equal(report.Problems, want) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// TestSummary shows what a person checks, for each valid fixture.
func TestSummary(t *testing.T) {
	for _, path := range fixtures(t, "valid") {
		cfg, err := Load(readStackFile(t, path).over(minimal(t)).source("test", newRoot(t, "test")))
		if err != nil {
			t.Fatal(err)
		}
		got := summary(cfg)
		if name := leaks(got); name != "" {
			t.Errorf("it shows %s", name)
		}
		golden.Check(t, testdata, filepath.Join("summary", strings.TrimSuffix(filepath.Base(path), ".yaml")+".txt"), got+"\n")
	}
}

// FuzzLoad puts any text in the place of any setting. What is refused is refused by a report that shows no secret, and
// nothing that is accepted is half read. As a test it takes the fixtures; `go test ./stacks -fuzz FuzzLoad` goes on from
// there.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*valid/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no fixtures: %v", err)
	}
	for _, path := range files {
		for key, text := range readStackFile(f, path).source("test", "").Values {
			f.Add(strings.TrimPrefix(key, project+":"), text)
		}
	}
	root, base := newRoot(f, "test"), minimal(f)
	f.Fuzz(func(t *testing.T, key, text string) {
		src := base.source("test", root)
		if !strings.HasPrefix(text, "canary-") { // a secret of the fixtures in clear, which a message may name
			src.Values[project+":"+key] = text
		}
		cfg, err := Load(src)
		var report *Report
		switch {
		case err == nil && cfg.Stack != "test":
			t.Error("accepted, and nothing was read")
		case err != nil && (!errors.As(err, &report) || report.empty()):
			t.Errorf("refused without a report: %v", err)
		case err != nil && leaks(err.Error()) != "":
			t.Errorf("the message shows %s", leaks(err.Error()))
		}
	})
}
