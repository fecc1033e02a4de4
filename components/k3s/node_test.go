package k3s

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
	"github.com/tinyrack-net/infrastructure/internal/golden"
)

// record registers a cluster and its nodes, each with a resource before it. sealed is what the first server prints.
func record(t *testing.T, args *ClusterArgs, sealed string) *pulumitest.Recording {
	t.Helper()
	args.First = host(args.Nodes[0].Name)
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		cluster, err := NewCluster(ctx, "cluster", args)
		if err != nil {
			return err
		}
		outputs := pulumi.Map{"token": cluster.Token}
		for _, member := range args.Nodes {
			var before pulumi.CustomResourceState
			if err := ctx.RegisterResource("test:index:Before", "before-"+member.Name, nil, &before); err != nil {
				return err
			}
			node, err := NewNode(ctx, "k3s-"+member.Name, &NodeArgs{
				Cluster: cluster, Host: host(member.Name), DependsOn: []pulumi.Resource{&before},
			})
			if err != nil {
				return err
			}
			var after pulumi.CustomResourceState
			err = ctx.RegisterResource("test:index:After", "after-"+member.Name, nil, &after, pulumi.DependsOn(node.Done))
			if err != nil {
				return err
			}
			if member == args.Nodes[0] {
				outputs["kubeconfig"] = node.Kubeconfig
			}
		}
		return pulumitest.Probe(ctx, "probe", outputs)
	}, func(r pulumitest.Resource) map[string]any {
		switch r.Name {
		case "cluster-token":
			return map[string]any{"result": canary}
		case "k3s-one-kubeconfig":
			return map[string]any{"stdout": sealed}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

// seal runs the real script.
func seal(t *testing.T, kubeconfig string) string {
	t.Helper()
	h := sealer(t)
	h.Write("/etc/rancher/k3s/k3s.yaml", kubeconfig)
	return h.Run(kubeconfigText(t), canary).Stdout
}

var digits = regexp.MustCompile(`'[0-9]+'`)

// describe returns everything that was registered, with the scripts' texts and secrets replaced by their names.
func describe(t *testing.T, r *pulumitest.Recording, args *ClusterArgs) string {
	t.Helper()
	admission, err := args.Spec.Admission()
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{
		strings.TrimSuffix(auditPolicy, "\n"), "<audit.yaml>", admission, "<admission.yaml>",
		strings.TrimSuffix(kernelDefaults, "\n"), "<sysctl.conf>", testHostKey, "<host key>",
	}
	for _, node := range args.Nodes {
		config, err := args.Spec.Config(args.Nodes, node, node.Name+".example.ts.net")
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, config, "<config of "+node.Name+">")
	}
	names := strings.NewReplacer(append(texts,
		remote.Library, "<lib.sh>\n", remote.Cluster, "<cluster.sh>\n", nodeScript, "<node.sh>\n",
		uninstallScript, "<uninstall.sh>\n", memberScript, "<member.sh>\n", dismissScript, "<dismiss.sh>\n",
		leaveScript, "<leave.sh>\n", nodesScript, "<nodes.sh>\n",
		kubeconfigScript, "<kubeconfig.sh>\n", canary, "<token>",
		agentToken(canary), "<agent token>", sum(fakeBinary(testVersion)), "<sum of k3s>",
		sum(fakeInstall), "<sum of install.sh>",
	)...)
	var text strings.Builder
	for _, name := range r.Names() {
		res := r.Get(t, name)
		fmt.Fprintf(&text, "%s %s\n  parent %s, after %v, protected %v, secret %v, secret outputs %v, ignored %v\n", res.Type,
			name, res.Parent, res.DependsOn, res.RPC.GetProtect(), res.Secrets(), res.RPC.GetAdditionalSecretOutputs(),
			res.RPC.GetIgnoreChanges())
		in := res.Plain()
		for _, key := range slices.Sorted(mapKeys(in)) {
			value, ok := in[key].(string)
			if !ok {
				raw, err := json.Marshal(in[key])
				if err != nil {
					t.Fatal(err)
				}
				value = string(raw)
			}
			// The sizes of the scripts are none of a reader's business.
			value = digits.ReplaceAllString(value, "'N'")
			fmt.Fprintf(&text, "  %s: %s\n", key, strings.ReplaceAll(names.Replace(value), "\n", "\n    "))
		}
	}
	return text.String()
}

func mapKeys(m map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

func TestResources(t *testing.T) {
	sealed := seal(t, withCertificate(t, time.Now().AddDate(1, 0, 0)))
	r := record(t, one(), sealed)
	golden.Check(t, testdata, "one.txt", describe(t, r, one()))
	probe := r.Get(t, "probe")
	if got := probe.Secrets(); !reflect.DeepEqual(got, []string{"kubeconfig", "token"}) {
		t.Errorf("secret outputs: %q", got)
	}
	if got := probe.Plain()["kubeconfig"].(string); !strings.Contains(got, "server: https://one.example.ts.net:6443\n") {
		t.Errorf("kubeconfig %q", got)
	}
	if got := probe.Plain()["token"]; got != canary {
		t.Errorf("token %q", got)
	}
	args := many()
	args.Protect = true
	golden.Check(t, testdata, "many.txt", describe(t, record(t, args, sealed), args))
}

func TestGivenToken(t *testing.T) {
	args := one()
	args.Token = pulumi.String("K10abcdef::server:" + canary + "\n")
	r := record(t, args, seal(t, "server: "+localServer))
	if !slices.Contains(r.Names(), "cluster-token") {
		t.Error("the protected token of a run without the given one would be removed")
	}
	if got := r.Get(t, "probe"); got.Plain()["token"] != canary || !slices.Contains(got.Secrets(), "token") {
		t.Errorf("token %q", got.Plain()["token"])
	}
	stdin := r.Get(t, "k3s-one-server").Plain()["stdin"].(string)
	if !strings.HasSuffix(stdin, "\n"+canary+"\n"+agentToken(canary)+"\n") {
		t.Error("the server does not get the given token and the agents'")
	}
	for _, token := range []string{"0123456789abcdef", "of_any~printable"} {
		if got, err := bareToken(token); err != nil || got != token {
			t.Errorf("%q of 16 characters: %q, %v", token, got, err)
		}
	}
	for token, want := range map[string]string{
		"short": "shorter than 16", "two words of s3cr3t text": "has blanks",
		"K10abc::node:s3cr3t-text": "has blanks, colons",
	} {
		got, err := bareToken(token)
		wantError(t, err, want)
		if got != "" || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestKubeconfigIsFetchedAgain(t *testing.T) {
	fetch := func(change func(*ClusterArgs)) any {
		args := one()
		change(args)
		return record(t, args, seal(t, "server: "+localServer)).Get(t, "k3s-one-kubeconfig").Plain()["stdin"]
	}
	first := fetch(func(*ClusterArgs) {})
	if again := fetch(func(*ClusterArgs) {}); again != first {
		t.Error("it is fetched without a change")
	}
	for name, change := range map[string]func(*ClusterArgs){
		"renewal": func(a *ClusterArgs) { a.Spec.Renewal = "2027-Q1" },
		"server":  func(a *ClusterArgs) { a.Spec.Snapshots = nil },
	} {
		if fetch(change) == first {
			t.Errorf("another %s keeps the old kubeconfig", name)
		}
	}
}

func TestExpiryIsAnnounced(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for days, warns := range map[int]bool{365: false, 61: false, 59: true, -1: true} {
		got := renewalWarning(withCertificate(t, now.AddDate(0, 0, days)), now)
		if (got != "") != warns || warns && !strings.Contains(got, "cluster.renewal") {
			t.Errorf("%d days: %q", days, got)
		}
	}
	if got := renewalWarning("server: x", now); got != "" {
		t.Errorf("no certificate: %q", got)
	}
	record(t, one(), seal(t, withCertificate(t, time.Now().AddDate(0, 0, 5))))
}

func TestScriptsAreClean(t *testing.T) {
	for _, node := range many().Nodes[2:4] {
		create, remove, err := many().texts(node, "n.example.ts.net")
		if err != nil {
			t.Fatal(err)
		}
		member, dismiss := memberTexts(node)
		for _, text := range []remote.Text{create, remove, member, dismiss, many().nodesText()} {
			text.Vars = append([]remote.Var{{Name: "OWNER", Value: "us"}}, text.Vars...)
			remotetest.ShellCheck(t, render(t, text))
		}
	}
}

func TestRefusedBeforeAnythingIsRegistered(t *testing.T) {
	args := one()
	args.First = host("one")
	args.Spec.Version = "latest"
	r, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		_, err := NewCluster(ctx, "cluster", args)
		return err
	}, nil)
	wantError(t, err, `k3s cluster "cluster": version: "latest"`)
	if len(r.Names()) != 0 {
		t.Errorf("registered %q", r.Names())
	}
	_, err = pulumitest.Run(func(ctx *pulumi.Context) error {
		args := one()
		args.First = host("one")
		cluster, err := NewCluster(ctx, "cluster", args)
		if err != nil {
			return err
		}
		_, err = NewNode(ctx, "k3s-six", &NodeArgs{Cluster: cluster, Host: host("six")})
		return err
	}, func(pulumitest.Resource) map[string]any { return map[string]any{"result": canary} })
	wantError(t, err, `k3s node "k3s-six": host six: not among`)
	_, err = pulumitest.Run(func(ctx *pulumi.Context) error {
		args := many()
		args.First = host("one")
		cluster, err := NewCluster(ctx, "cluster", args)
		if err != nil {
			return err
		}
		_, err = NewNode(ctx, "k3s-two", &NodeArgs{Cluster: cluster, Host: host("two")})
		return err
	}, func(pulumitest.Resource) map[string]any { return map[string]any{"result": canary} })
	wantError(t, err, `k3s node "k3s-two": registered before the first server`)
}
