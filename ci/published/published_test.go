package published

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/tinyrack-net/infrastructure/ci/engine"
	"github.com/tinyrack-net/infrastructure/ci/report"
)

const (
	// accountNumber is more than a float holds.
	accountNumber = json.Number("4839201775483920177")

	gitToken = "canary0123456789abcdef0123456789abcdef01"
	commit   = "0123456789abcdef0123456789abcdef01234567"
)

var realKey = sync.OnceValue(func() string { return unknownSecret(sealingKey) })

// secrets are those of the stack, in clear.
func secrets() map[string]string {
	return map[string]string{"p:gitToken": gitToken, "p:sealingKey": realKey()}
}

const settingsText = `# The site.
config:
  p:gitToken:
    secure: v1:git-token
  p:sealingKey:
    secure: v1:sealing-key
  p:sealedSecrets:
    certificate: clusters/lab/sealing.crt
encryptionsalt: v1:salt-of-the-real
`

// files are those of the commit that was applied.
func files() map[string]string {
	return map[string]string{
		"Pulumi.yaml": "name: p\nruntime: go\n", "Pulumi.lab.yaml": settingsText,
		"clusters/lab/sealing.crt": "the real certificate",
		"main.go":                  `data := map[string]any{"on": true, "tls.key": key, "nested": nil}` + "\n",
		"Pulumi.other.yaml":        "config:\n  p:gitToken:\n    secure: v1:other\nencryptionsalt: v1:salt-of-the-other\n",
	}
}

// tree is a new folder with a commit's files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// exported is the state that the program leaves, in clear, as it was applied with the secrets.
func exported(t *testing.T, change func(state map[string]any, resources map[string]map[string]any)) string {
	t.Helper()
	values := secrets()
	outputs := map[string]any{"sum": mark(gitToken)}
	all := (&pulumi{tree: t.TempDir()}).program(values, func(string) map[string]any { return outputs })
	resources := map[string]map[string]any{}
	var list []any
	for _, name := range slices.Sorted(maps.Keys(all)) {
		outputs := map[string]any{
			"own": "the cloud's", "made": engine.Secret("canary-made-by-the-cloud"), "account": engine.Secret(accountNumber),
			"data": engine.Secret(map[string]any{"tls.key": "canary-of-a-secret", "nested": engine.Secret([]any{-51.77e21})}),
		}
		maps.Copy(outputs, all[name])
		resources[name] = map[string]any{
			"urn": urn + name, "type": "a:b:C", "custom": true, "id": "id-" + name, "inputs": all[name], "outputs": outputs,
		}
		list = append(list, resources[name])
	}
	resources["keeper"]["protect"] = true
	deployment := map[string]any{
		"manifest": map[string]any{"version": "v3"}, "resources": list,
		"secrets_providers":  map[string]any{"type": "passphrase", "state": map[string]any{"salt": "v1:salt-of-the-real"}},
		"pending_operations": []any{map[string]any{"type": "creating", "resource": map[string]any{"urn": urn + "pending"}}},
	}
	if change != nil {
		change(deployment, resources)
	}
	text, err := json.Marshal(map[string]any{"version": 3, "deployment": deployment})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// publish publishes a commit's files, and says how often the program was run.
func publish(t *testing.T, files map[string]string, state string) (s *State, runs int, err error) {
	t.Helper()
	b := &box{t: t}
	s, err = Make(t.Context(), b, "lab", commit, tree(t, files), state, secrets())
	text, _ := os.ReadFile(filepath.Join(b.last, "previews")) // none, where nothing was run
	return s, strings.Count(string(text), "\n"), err
}

func TestMake(t *testing.T) {
	s, runs, err := publish(t, files(), exported(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	// One for the settings. Then the sum changes, then the chain that depends on it, then nothing does.
	if runs != 3 {
		t.Errorf("converged with %d runs", runs)
	}
	text, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, forbidden := range []string{
		"canary", mark(gitToken), mark(realKey()), "v1:", "pending", "protect\"", "secrets_providers", engine.Unknown,
		"ciphertext", accountNumber.String(), "5.177",
	} {
		if strings.Contains(string(text), forbidden) {
			t.Errorf("%s is in\n%s", forbidden, text)
		}
	}
	if s.Stack != "lab" || s.Commit != commit || !slices.Equal(s.Protected, []string{urn + "keeper"}) {
		t.Errorf("it is of %s at %s, protected are %q", s.Stack, s.Commit, s.Protected)
	}
	token := s.Secrets["p:gitToken"]
	if len(s.Secrets) != 2 || token.Mark != mark("v1:git-token") || len(token.Value) != len(gitToken) {
		t.Errorf("secrets are %v", s.Secrets)
	}
	var state backend
	if err := json.Unmarshal(s.Deployment, &state); err != nil {
		t.Fatal(err)
	}
	got := map[string]*object{}
	for _, o := range state.Deployment.Resources {
		got[strings.TrimPrefix(o.URN, urn)] = o
	}
	// Inputs, and the outputs that repeat them; what the cloud made stays, and what is no secret.
	for name, want := range map[string]map[string]any{
		"token": {"value": engine.Secret(token.Value), "size": 22.0},
		"url":   {"value": engine.Secret("https://x:" + token.Value + "@host"), "sum": mark(token.Value)},
		"key":   {"id": mark(s.Secrets["p:sealingKey"].Value), "zone": "lab.test"},
		"chain": {"of": map[string]any{"sum": mark(token.Value)}},
		// What public settings make of it: a port, for one.
		"command": {"connection": engine.Secret(connectionTo(s.Secrets["p:sealingKey"].Value))},
	} {
		if !same(got[name].Inputs, want) {
			t.Errorf("%s has %v, want %v", name, got[name].Inputs, want)
		}
		want["own"] = "the cloud's"
		// Equal secrets have equal placeholders.
		want["made"], want["account"], want["data"] = got["token"].Outputs["made"], got["token"].Outputs["account"],
			got["token"].Outputs["data"]
		if !same(got[name].Outputs, want) {
			t.Errorf("%s came to be %v, want %v", name, got[name].Outputs, want)
		}
	}
	// Numbers stay numbers, however deep.
	text = s.Deployment
	for _, form := range []string{
		`"account":\{"4dab[0-9a-f]+":"[0-9a-f]+","plaintext":"[1-9][0-9]{18}"`,
		`"plaintext":"\[-[1-9]\.[0-9]{3}e\+22\]"`,
	} {
		inner := strings.ReplaceAll(string(text), `\`, "")
		if !regexp.MustCompile(form).MatchString(inner) {
			t.Errorf("%s is not in\n%s", form, inner)
		}
	}
	ofKey(t, s.Certificate.Value, s.Secrets["p:sealingKey"].Value)
	if s.Certificate.Mark != mark("the real certificate") {
		t.Error("the certificate is marked otherwise than what git holds")
	}
}

// ofKey wants a certificate of a key.
func ofKey(t *testing.T, cert, key string) {
	t.Helper()
	block, _ := pem.Decode([]byte(cert))
	private, _ := pem.Decode([]byte(key))
	if block == nil || private == nil {
		t.Fatalf("no certificate or no key: %q", cert)
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := x509.ParsePKCS8PrivateKey(private.Bytes)
	if err != nil || !rsaKey.(*rsa.PrivateKey).PublicKey.Equal(parsed.PublicKey) {
		t.Errorf("the certificate is of another key: %v", err)
	}
}

func TestMakeRefuses(t *testing.T) {
	without := func(name string) map[string]string {
		all := files()
		delete(all, name)
		return all
	}
	with := func(name, text string) map[string]string {
		all := files()
		all[name] = text
		return all
	}
	output := func(value any) string {
		return exported(t, func(_ map[string]any, resources map[string]map[string]any) {
			resources["key"]["outputs"].(map[string]any)["own"] = value
		})
	}
	const generated = "generated-0123456789abcdef" // by the program, and in no setting
	const stays = "a secret is still in it"
	for name, test := range map[string]struct {
		files map[string]string
		state string
		want  string
	}{
		"a secret in clear": {files(), output("x " + gitToken), stays},
		"encoded":           {files(), output(base64.StdEncoding.EncodeToString([]byte(gitToken))), stays},
		"a line of a key":   {files(), output(strings.Split(realKey(), "\n")[3]), stays},
		"as an ID": {files(), exported(t, func(_ map[string]any, resources map[string]map[string]any) {
			resources["key"]["id"] = gitToken
		}), stays},
		"one of the state's own": {files(), exported(t, func(_ map[string]any, resources map[string]map[string]any) {
			resources["key"]["outputs"].(map[string]any)["own"] = engine.Secret(generated)
			resources["token"]["outputs"].(map[string]any)["own"] = generated
		}), stays},
		"a number of the state's own": {files(), exported(t, func(_ map[string]any, resources map[string]map[string]any) {
			resources["token"]["id"] = "x-" + accountNumber.String() + "-y"
		}), stays},
		"a number with a point": {files(), exported(t, func(_ map[string]any, resources map[string]map[string]any) {
			resources["key"]["outputs"].(map[string]any)["own"] = engine.Secret(-9157.4821)
			resources["token"]["outputs"].(map[string]any)["own"] = 9157.4821
		}), stays},
		"a name in a secret object": {
			files(), output(engine.Secret(map[string]any{"canary-private-user": "x"})),
			"publish the state of lab: " + urn + "key: a secret object has a name in it that stands in no file",
		},
		"a name in a list": {
			files(), output(engine.Secret([]any{map[string]any{"tls.keys": "x"}})), "a name in it that stands in no file",
		},
		"an asset": {
			files(), output(engine.Secret(map[string]any{signature: "c44067f5952c0a294b673a41bacd8c17", "text": "canary"})),
			"publish the state of lab: " + urn + "key: has a secret that is encrypted, or of another kind",
		},
		"what is marked otherwise": {
			files(), output(engine.Secret([]any{map[string]any{signature: "another", "plaintext": `"canary"`}})),
			"has a secret that is encrypted, or of another kind",
		},
		"what is encrypted": {
			files(), strings.Replace(output(engine.Secret("canary-x")), `"plaintext":"\"canary-x\""`, `"ciphertext":"x"`, 1),
			"has a secret that is encrypted",
		},
		"what is no JSON": {
			files(), strings.Replace(output(engine.Secret("canary-x")), `"plaintext":"\"canary-x\""`, `"plaintext":"canary-x"`, 1),
			"has a secret that is encrypted",
		},
		"what never settles": {
			with("never", ""), exported(t, nil), "publish the state of lab: after 3 rounds " + urn + "key still changes",
		},
		"no state":      {files(), "{}", "is not what the engine writes"},
		"no JSON":       {files(), gitToken, "is not what the engine writes"},
		"no such stack": {without("Pulumi.lab.yaml"), exported(t, nil), "there is no such stack in this commit"},
		"a secret in a list": {
			with("Pulumi.lab.yaml", "config:\n  p:a: [{secure: v1:x}]\n"), exported(t, nil), "p:a: has a secret inside",
		},
	} {
		s, _, err := publish(t, test.files, test.state)
		if s != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
		if err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), generated)) {
			t.Errorf("%s: a secret is told: %v", name, err)
		}
	}
}

// everybodys is a state as everybody gets it.
var everybodys = func() func(t *testing.T) *State {
	var text []byte
	return func(t *testing.T) *State {
		t.Helper()
		if text == nil {
			s, _, err := publish(t, files(), exported(t, nil))
			if err == nil {
				text, err = s.Text()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		s := &State{}
		if err := json.Unmarshal(text, s); err != nil {
			t.Fatal(err)
		}
		return s
	}
}()

func TestPreview(t *testing.T) {
	both := []string{"p:gitToken", "p:sealingKey"}
	replace := func(name, before, after string) func(map[string]string) {
		return func(files map[string]string) { files[name] = strings.Replace(files[name], before, after, 1) }
	}
	for name, test := range map[string]struct {
		change func(files map[string]string)
		// want are the operations, same the secrets whose placeholder stays.
		want, same []string
		cert       bool // the certificate stays
	}{
		"nothing": {func(map[string]string) {}, nil, both, true},
		"the program": {
			func(files map[string]string) { files["zone"] = "" }, []string{"update key"}, both, true,
		},
		"a secret": {
			replace("Pulumi.lab.yaml", "v1:git-token", "v1:another"),
			[]string{"update chain", "update token", "update url"},
			[]string{"p:sealingKey"},
			true,
		},
		"the sealing key": {
			replace("Pulumi.lab.yaml", "v1:sealing-key", "v1:another"),
			[]string{"update command", "update key"},
			[]string{"p:gitToken"},
			false,
		},
		"the certificate": {
			func(files map[string]string) { files["clusters/lab/sealing.crt"] = "another" }, nil,
			both,
			false,
		},
		"encrypted anew": {
			replace("Pulumi.lab.yaml", "v1:salt-of-the-real", "v1:another"), nil, both, true,
		},
		"another stack's secret": {
			replace("Pulumi.other.yaml", "v1:other", "v1:another"), nil, both, true,
		},
		"what is protected": {
			func(files map[string]string) { files["no-keeper"] = "" },
			[]string{"delete keeper !it is protected: the engine refuses this"},
			both,
			true,
		},
	} {
		s, b, all := everybodys(t), &box{t: t}, files()
		test.change(all)
		at := tree(t, all)
		digest, err := s.Preview(t.Context(), b, at)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		changes, _ := digest.Changes()
		var got []string
		for _, c := range changes {
			got = append(got, strings.TrimSuffix(c.Op+" "+c.Name+" !"+c.Danger, " !"))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		values := b.values()
		if len(values) != 2 {
			t.Errorf("%s: secrets are %v", name, values)
		}
		for key, value := range values {
			if stays := value == s.Secrets[key].Value; stays != slices.Contains(test.same, key) {
				t.Errorf("%s: the placeholder of %s stays: %v", name, key, stays)
			}
			if value == secrets()[key] || value == "" {
				t.Errorf("%s: %s is %s", name, key, value)
			}
		}
		cert, err := os.ReadFile(filepath.Join(at, cleanCertificate))
		if err != nil || (string(cert) == s.Certificate.Value) != test.cert {
			t.Errorf("%s: the certificate stays: %v, %v", name, !test.cert, err)
		}
		ofKey(t, string(cert), values["p:sealingKey"])
	}
}

// A state that was published with placeholders of another form, as earlier ones kept more of it, still compares.
func TestPreviewOfAStateOfBefore(t *testing.T) {
	const before = "decree0123456789fedcba9876543210-abcdef01"
	s := everybodys(t)
	text, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	token := s.Secrets["p:gitToken"].Value
	changed := strings.NewReplacer(token, before, mark(token), mark(before)).Replace(string(text))
	s = &State{}
	if err := json.Unmarshal([]byte(changed), s); err != nil {
		t.Fatal(err)
	}
	b := &box{t: t}
	digest, err := s.Preview(t.Context(), b, tree(t, files()))
	if err != nil {
		t.Fatal(err)
	}
	if changes, _ := digest.Changes(); len(changes) > 0 || b.values()["p:gitToken"] != before {
		t.Errorf("%v with %v", changes, b.values())
	}
	all := files()
	all["Pulumi.lab.yaml"] = strings.Replace(all["Pulumi.lab.yaml"], "v1:git-token", "v1:another", 1)
	if digest, err = s.Preview(t.Context(), b, tree(t, all)); err != nil {
		t.Fatal(err)
	}
	if changes, _ := digest.Changes(); len(changes) != 3 {
		t.Errorf("a secret that changes changes %v", changes)
	}
}

func TestSecretsComeAndGo(t *testing.T) {
	s, b, all := everybodys(t), &box{t: t}, files()
	all["Pulumi.lab.yaml"] = strings.NewReplacer("  p:gitToken:\n    secure: v1:git-token\n", "",
		"config:\n", "config:\n  p:gitSshKey:\n    secure: v1:new\n  p:k3sToken: {secure: v1:newer}\n").
		Replace(all["Pulumi.lab.yaml"])
	if _, err := s.Preview(t.Context(), b, tree(t, all)); err != nil {
		t.Fatal(err)
	}
	values := b.values()
	if got := slices.Sorted(maps.Keys(values)); !slices.Equal(got, []string{"p:gitSshKey", "p:k3sToken", "p:sealingKey"}) {
		t.Errorf("secrets are %q", got)
	}
	if _, err := ssh.ParsePrivateKey([]byte(values["p:gitSshKey"])); err != nil || len(values["p:k3sToken"]) != 40 {
		t.Errorf("they are of no use: %v, %q", err, values["p:k3sToken"])
	}
}

// A key that comes has a certificate of its own from the start.
func TestASealingKeyComes(t *testing.T) {
	s, b, at := everybodys(t), &box{t: t}, tree(t, files())
	delete(s.Secrets, "p:sealingKey")
	if _, err := s.Preview(t.Context(), b, at); err != nil {
		t.Fatal(err)
	}
	cert, err := os.ReadFile(filepath.Join(at, cleanCertificate))
	if err != nil {
		t.Fatal(err)
	}
	ofKey(t, string(cert), b.values()["p:sealingKey"])
}

func TestAPreviewFails(t *testing.T) {
	s := everybodys(t)
	const inside = "p:a: has a secret inside"
	for name, test := range map[string]struct {
		file, text string
		want       string
	}{
		"no such stack":            {"Pulumi.lab.yaml", "", "there is no such stack in this commit"},
		"no YAML":                  {"Pulumi.lab.yaml", "config: [", "Pulumi.lab.yaml: is no YAML"},
		"another stack is no YAML": {"Pulumi.other.yaml", "config: [", "Pulumi.other.yaml: is no YAML"},
		"a secret in an object":    {"Pulumi.lab.yaml", "config:\n  p:a:\n    b:\n      secure: v1:x\n", inside},
		"a secret in a list":       {"Pulumi.lab.yaml", "config:\n  p:a: [x, {secure: v1:x}]\n", inside},
		"a secret beside":          {"Pulumi.lab.yaml", "config:\n  p:a: {secure: v1:x, b: 1}\n", inside},
		"no text":                  {"Pulumi.lab.yaml", "config:\n  p:a: {secure: 1}\n", inside},
	} {
		all := files()
		all[test.file] = test.text
		if test.text == "" {
			delete(all, test.file)
		}
		_, err := s.Preview(t.Context(), &box{t: t}, tree(t, all))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

// A link inside the tree is a file as any other: what it leads to is cleaned.
func TestSettingsThatAreALink(t *testing.T) {
	s, all := everybodys(t), files()
	all["settings/lab.yaml"] = all["Pulumi.lab.yaml"]
	delete(all, "Pulumi.lab.yaml")
	at := tree(t, all)
	if err := os.Symlink("settings/lab.yaml", filepath.Join(at, "Pulumi.lab.yaml")); err != nil {
		t.Fatal(err)
	}
	digest, err := s.Preview(t.Context(), &box{t: t}, at)
	if err != nil {
		t.Fatal(err)
	}
	if changes, _ := digest.Changes(); len(changes) > 0 {
		t.Errorf("changes: %v", changes)
	}
	text, err := os.ReadFile(filepath.Join(at, "settings", "lab.yaml"))
	if err != nil || strings.Contains(string(text), "secure") {
		t.Errorf("it holds %s, %v", text, err)
	}
}

// A secret setting is looked for, whatever it looks like.
func TestMakeLooksForEverySetting(t *testing.T) {
	const name = "canary.lab.test"
	all := secrets()
	all["p:user"] = name
	state := exported(t, func(_ map[string]any, resources map[string]map[string]any) {
		resources["key"]["outputs"].(map[string]any)["own"] = "x " + name
	})
	s, err := Make(t.Context(), &box{t: t}, "lab", commit, tree(t, files()), state, all)
	if s != nil || err == nil || !strings.Contains(err.Error(), "a secret is still in it") {
		t.Errorf("%v", err)
	}
}

func TestSettle(t *testing.T) {
	d := &deployment{Deployment: map[string]any{"resources": []any{
		map[string]any{
			"urn": "one", "inputs": map[string]any{"a": 1.0, "b": "x", "c": "x", "gone": "x"},
			"outputs": map[string]any{"a": 1.0, "b": "x", "own": "x", "gone": "x"},
		},
		map[string]any{"urn": "other", "inputs": map[string]any{"a": 1.0}},
		map[string]any{"urn": "none"},
	}}}
	plan := filepath.Join(t.TempDir(), "plan")
	text := `{"resourcePlans":{"none":{"goal":{}},"one":{"goal":{"inputDiff":{"adds":{"new":"y","own":"y"},` +
		`"updates":{"a":2,"b":["z","` + engine.Unknown + `"],"c":"y"},"deletes":["gone"]}}}}}`
	if err := os.WriteFile(plan, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.settle(plan); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(d.Deployment["resources"])
	want := `[{"inputs":{"a":2,"b":"x","c":"y","new":"y","own":"y"},` +
		`"outputs":{"a":2,"b":"x","gone":"x","own":"y"},"urn":"one"},{"inputs":{"a":1},"urn":"other"},{"urn":"none"}]`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	if err := d.settle(plan + ".none"); err == nil || !strings.HasPrefix(err.Error(), "the engine's plan: ") {
		t.Errorf("a plan that is not there: %v", err)
	}
}

// Of what is secret as a whole no more is looked for than what is.
func TestNotPublic(t *testing.T) {
	at := tree(t, map[string]string{
		"Pulumi.lab.yaml": "config:\n  p:user: in-the-settings\n", "a/script.sh": "echo in-a-script\n",
		".published.json": "a-secret", // a box's own
	})
	kubeconfig := "kind: Config\nusers:\n- user:\n    client-key-data: c2VjcmV0\n" +
		"    certificate-authority-data: cHVibGlj\n"
	public, err := readAll(at)
	if err != nil {
		t.Fatal(err)
	}
	got := notPublic([]string{
		"a-secret", "in-the-settings", "in-a-script", "host.lab.test", "a script\nof lines", kubeconfig, realKey(),
		"48211.77", "10.0.0.1",
	}, public)
	if want := []string{"a-secret", "c2VjcmV0", strings.TrimSpace(realKey()), "48211.77"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if _, err := readAll(filepath.Join(at, "none")); err == nil {
		t.Error("a tree that is not there holds nothing")
	}
}

// What an apply may not tell, too: a name that would not be published does not stop it.
func TestSecrets(t *testing.T) {
	state := func(own any) string {
		return exported(t, func(_ map[string]any, resources map[string]map[string]any) {
			resources["key"]["outputs"].(map[string]any)["own"] = own
		})
	}
	at := tree(t, files())
	got, err := Secrets(state(engine.Secret(map[string]any{"canary-private-user": "x", "tls.key": -48211.77})), at)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"canary-private-user": true, "48211.77": true, accountNumber.String(): true, gitToken: true,
		"tls.key": false, "10.0.0.1": false, "15": false,
	} {
		if slices.Contains(got, text) != want {
			t.Errorf("%s is looked for: %v", text, !want)
		}
	}
	// One that cannot be published does not stop the apply that takes it away: what it holds is looked for, and the rest.
	asset := map[string]any{signature: "another", "text": "canary-asset"}
	got, err = Secrets(state(engine.Secret([]any{asset, "canary-beside"})), at)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"canary-asset": true, "canary-beside": true, gitToken: true, "another": false,
	} {
		if slices.Contains(got, text) != want {
			t.Errorf("with an asset %s is looked for: %v", text, !want)
		}
	}
	if _, err := Secrets("no JSON", at); err == nil || !strings.Contains(err.Error(), "secret in it is not known") {
		t.Errorf("no state: %v", err)
	}
	if got, err := Secrets("{}", at); err != nil || len(got) > 0 {
		t.Errorf("an empty one has %q, %v", got, err)
	}
}

// A size that is secret somewhere and public elsewhere, or a part of a checksum, keeps nobody from publishing.
func TestAShortNumberIsPublicElsewhere(t *testing.T) {
	state := exported(t, func(_ map[string]any, resources map[string]map[string]any) {
		resources["key"]["outputs"].(map[string]any)["own"] = engine.Secret([]any{1073741824, 482113})
		resources["token"]["outputs"].(map[string]any)["own"] = 1073741824
		resources["token"]["id"] = "sha256:a482113f"
	})
	if _, _, err := publish(t, files(), state); err != nil {
		t.Error(err)
	}
}

func TestNamesAreWords(t *testing.T) {
	const text = "ssh-user users: user1 {\"tls.key\": x} über"
	for name, want := range map[string]bool{
		"tls.key": true, "users": true, "ssh-user": true, "über": true, "x": true, "": true,
		"user": false, "ls.key": false, "tls.ke": false, "ssh": false, "ber": false, "canary": false,
	} {
		if report.HoldsWord(text, name, "_-") != want {
			t.Errorf("%q is one: %v", name, !want)
		}
	}
}

func TestBranch(t *testing.T) {
	if got := Branch("lab") + " " + File; got != "published/lab state.json" {
		t.Errorf("it is at %s", got)
	}
}
