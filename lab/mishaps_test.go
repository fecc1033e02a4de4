//go:build e2e && growth

package main

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// TestMishaps brings on one machine what a person's machine meets once in years. It begins with a lab that is up, or
// brings one up.
func TestMishaps(t *testing.T) {
	succeed(t, "up")
	t.Run("lost login", lostLogin)
	t.Run("lost state", lostState)
	t.Run("wrong port", wrongPort)
	t.Run("certificates that end", certificatesThatEnd)
	t.Run("another firewall", anotherFirewall)
}

// lostLogin loses the machine's login. A spent key is refused, and one that nobody used yet brings the machine in
// beside its former self, which is refused too. Another key frees the name.
func lostLogin(t *testing.T) {
	l := running(t)
	before, former := lookWithoutLogin(t, l), login(t, l)
	publicly(t, l, "systemctl stop tailscaled && rm -r /var/lib/tailscale && systemctl start tailscaled")
	const way = "**TailnetKey::*tinyrack"
	said := refused(t, l, again(l, preflight, join))
	spent := strings.Contains(said, "it was used up") && strings.Contains(said, "--replace '"+way+"'")
	if !spent && !strings.Contains(said, "is taken in the tailnet, so this machine became") {
		t.Errorf("refused for another reason:\n%s", said)
	}
	unchanged(t, "the login was lost", before, lookWithoutLogin(t, l))
	deviceIsOff(t, l)
	mustAgain(t, l, way)
	unchanged(t, "the machine joined again", before, lookWithoutLogin(t, l))
	if now := login(t, l); now == former || !strings.Contains(now, `"DNSName": "`+first(l).FQDN()+`."`) {
		t.Errorf("the machine is\n%s\nbefore it was\n%s", now, former)
	}
	nothingToDo(t, l)
}

// lostState removes the stack's state and goes the way of docs/runbooks/interrupted-run.md, with each of its steps
// left out at first: the machine and the cluster are as they were at any time.
func lostState(t *testing.T) {
	l := running(t)
	before := look(t, l)
	lost := exported(t, l)
	settings, err := os.ReadFile(l.stack.Config())
	if err != nil {
		t.Fatal(err)
	}
	spent := tailnetKeys(t, l)
	forget := func() {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(l.stack.Backend(), ".pulumi")); err != nil {
			t.Fatal(err)
		}
		if err := l.stack.Init(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	refused(t, l, l.stack.Up, "You already have a tunnel with this name")
	unchanged(t, "the state was lost", before, look(t, l))
	// A tunnel with connectors is not removed.
	kube(t, l, "--namespace=cloudflared", "scale", "deployment/cloudflared", "--replicas=0")
	eventually(t, time.Minute, "the connectors are gone", func() error {
		if pods := kube(t, l, "--namespace=cloudflared", "get", "pods", "--output=name"); pods != "" {
			return errors.New(pods)
		}
		return nil
	})
	emptyCloudflare(t, l)
	forget() // with Cloudflare goes what the refused run had made there
	refused(t, l, l.stack.Up, "the state was lost or is another's", "pulumi config set --secret k3sToken",
		"/var/lib/rancher/k3s/server/token")
	unchanged(t, "the token was lost", before, look(t, l))
	token := onMachine(t, l, "cat /var/lib/rancher/k3s/server/token")
	if err := l.stack.SetSecret(t.Context(), "k3sToken", token); err != nil {
		t.Fatal(err)
	}
	upOrFail(t, l)
	unchanged(t, "the state was made anew", before, look(t, l))
	nothingToDo(t, l)
	visitorsAreBack(t, l)

	// As it was: the next up of the lab knows no k3sToken, and takes the generated one.
	if err := l.stack.Import(t.Context(), withTokenOf(t, exported(t, l), lost)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.stack.Config(), settings, 0o600); err != nil {
		t.Fatal(err)
	}
	call := tailscaleAPI(t, l)
	for _, id := range spent {
		answer, status := call(http.MethodDelete, "/tailnet/"+layout.Tailnet+"/keys/"+id, "")
		if status != http.StatusOK {
			t.Errorf("removing a key: %s", answer)
		}
	}
	upOrFail(t, l)
	unchanged(t, "the generated token is back", before, look(t, l))
	nothingToDo(t, l)
}

// visitorsAreBack waits for the connectors of a new tunnel: the former one's token is of no use any more.
func visitorsAreBack(t *testing.T, l *lab) {
	t.Helper()
	client := browser(t, l)
	eventually(t, 2*time.Minute, "a visitor reaches the application", func() error {
		got, err := ask(t.Context(), client, notes+"/healthz")
		if err == nil && got.status != http.StatusOK {
			err = errors.New(got.String())
		}
		return err
	})
}

// tailnetKeys are the IDs of the keys in the tailnet.
func tailnetKeys(t *testing.T, l *lab) []string {
	t.Helper()
	text, status := tailscaleAPI(t, l)(http.MethodGet, "/tailnet/"+layout.Tailnet+"/keys", "")
	var all struct{ Keys []struct{ ID string } }
	if err := json.Unmarshal([]byte(text), &all); err != nil || status != http.StatusOK {
		t.Fatalf("no list of keys: %s", text)
	}
	var ids []string
	for _, k := range all.Keys {
		ids = append(ids, k.ID)
	}
	return ids
}

// emptyCloudflare removes by hand what the lost state knew to be the stack's: what leads to the tunnel before it.
func emptyCloudflare(t *testing.T, l *lab) {
	t.Helper()
	const account, zone = "/accounts/" + cloudflare.DefaultAccountID, "/zones/" + cloudflare.DefaultZoneID
	call := func(method, path string) (result []struct{ ID string }) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+layout.CloudflareAddr+cloudflare.Prefix+path,
			http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+l.secrets.CloudflareToken)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer struct{ Result json.RawMessage }
		err = json.NewDecoder(resp.Body).Decode(&answer)
		if err == nil && method == http.MethodGet {
			err = json.Unmarshal(answer.Result, &result)
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %s, %v", method, path, resp.Status, err)
		}
		return result
	}
	for _, path := range []string{
		account + "/access/apps", account + "/access/policies", zone + "/dns_records", account + "/cfd_tunnel",
	} {
		query := ""
		if path == account+"/cfd_tunnel" {
			query = "?is_deleted=false"
		}
		found := call(http.MethodGet, path+query)
		if len(found) == 0 {
			t.Fatalf("nothing at %s", path)
		}
		for _, object := range found {
			call(http.MethodDelete, path+"/"+object.ID)
		}
	}
}

// withTokenOf is the state with the generated token of another one.
func withTokenOf(t *testing.T, state, other string) string {
	t.Helper()
	resources := func(text string) (whole map[string]any, list []any, token int) {
		if err := json.Unmarshal([]byte(text), &whole); err != nil {
			t.Fatal(err)
		}
		list, _ = whole["deployment"].(map[string]any)["resources"].([]any)
		token = slices.IndexFunc(list, func(r any) bool {
			return strings.HasSuffix(fmt.Sprint(r.(map[string]any)["urn"]), "::cluster-token")
		})
		if token < 0 {
			t.Fatal("the state has no generated token")
		}
		return whole, list, token
	}
	whole, list, at := resources(state)
	_, former, formerAt := resources(other)
	token := former[formerAt].(map[string]any)
	token["provider"] = list[at].(map[string]any)["provider"] // a provider has another ID in each state
	list[at] = token
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wrongPort sets a port that sshd does not listen on, plainly and behind an address translation. In both cases
// nothing is changed, the firewall above all.
func wrongPort(t *testing.T) {
	l := running(t)
	for _, test := range []struct{ name, make, remove, want string }{
		{"nothing listens", "true", "true", first(l).IPv4 + ": port 2222 cannot be reached from the computer pulumi " +
			"runs on: nothing was changed on the machine"},
		{
			"translated",
			"nft 'table inet e2e { chain translate { type nat hook prerouting priority dstnat; iifname eth0 tcp dport 2222 " +
				"redirect to :22; }; }'",
			"nft delete table inet e2e", "sshd received this session on port 22, the settings say 2222",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			onMachine(t, l, test.make)
			defer onMachine(t, l, test.remove)
			before := firewallNow(t, l)
			withHost(t, l, func(host map[string]any) { host["port"] = 2222 }, func() {
				refused(t, l, l.stack.Up, test.want)
				if after := firewallNow(t, l); after != before {
					t.Errorf("the firewall is\n%s\nbefore it was\n%s", after, before)
				}
			})
		})
	}
	upChangesNothing(t)
}

// certificatesThatEnd has the cluster's certificates end within a month, which another text in cluster.renewal renews.
func certificatesThatEnd(t *testing.T) {
	l := running(t)
	const dropIn = "/etc/systemd/system/k3s.service.d/99-e2e.conf"
	onMachine(t, l, "systemctl stop k3s && k3s certificate rotate && "+
		"echo '[Service]\nEnvironment=CATTLE_NEW_SIGNED_CERT_EXPIRATION_DAYS=30' >"+dropIn+
		" && systemctl daemon-reload && systemctl start k3s && rm "+dropIn+" && systemctl daemon-reload")
	days := func(certificate string) int {
		t.Helper()
		block, _ := pem.Decode([]byte(certificate))
		if block == nil {
			t.Fatalf("no certificate: %s", certificate)
		}
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return int(time.Until(parsed.NotAfter).Hours() / 24)
	}
	const administrator = "cat /var/lib/rancher/k3s/server/tls/client-admin.crt"
	if left := days(onMachine(t, l, administrator)); left > 30 {
		t.Fatalf("the administrator's certificate ends in %d days", left)
	}
	putBack := change(t, l, func(config map[string]map[string]any) { config["tinyrack:cluster"]["renewal"] = "e2e" })
	upOrFail(t, l)
	kubeconfig, err := l.stack.Output(t.Context(), "kubeconfig")
	if err != nil {
		t.Fatal(err)
	}
	_, data, _ := strings.Cut(kubeconfig, "client-certificate-data: ")
	data, _, _ = strings.Cut(data, "\n")
	inKubeconfig, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		t.Fatal(err)
	}
	for what, certificate := range map[string]string{
		"on the machine": onMachine(t, l, administrator), "in the kubeconfig": string(inKubeconfig),
	} {
		if left := days(certificate); left < 300 {
			t.Errorf("the administrator's certificate %s ends in %d days", what, left)
		}
	}
	nothingToDo(t, l)
	putBack()
	upOrFail(t, l)
}

// anotherFirewall has ufw, then firewalld, at work on the machine.
func anotherFirewall(t *testing.T) {
	l := running(t)
	const install = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "
	for _, test := range []struct{ name, start, stop string }{
		{"ufw", "ufw allow 22/tcp && ufw --force enable", "ufw disable"},
		{"firewalld", "systemctl start firewalld", "systemctl disable --now firewalld"},
	} {
		t.Run(test.name, func(t *testing.T) {
			onMachine(t, l, install+test.name+" && "+test.start)
			defer onMachine(t, l, test.stop+" && apt-get purge -qy --auto-remove "+test.name)
			before := look(t, l)
			refused(t, l, again(l, preflight), test.name+" is active")
			unchanged(t, test.name+" was found", before, look(t, l))
			onMachine(t, l, test.stop)
			mustAgain(t, l, preflight)
			nothingToDo(t, l)
		})
	}
}
