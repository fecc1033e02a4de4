//go:build e2e

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// cis is the newest set of kube-bench's checks for k3s, after the CIS Kubernetes Benchmark of the same version.
const cis = "k3s-cis-1.8"

// check is a result of kube-bench.
type check struct {
	ID     string `json:"test_number"`
	Text   string `json:"test_desc"`
	Type   string `json:"type"`
	Audit  string `json:"audit"`
	Config string `json:"AuditConfig"`
	Status string `json:"status"`
	Actual string `json:"actual_value"`
	Reason string `json:"reason"`
}

// Commands for the machine, in which NODE is its address: an agent's kubelet listens there alone. A foreign certificate
// is one that no authority of the cluster signed.
const (
	k3sAgent    = "/var/lib/rancher/k3s/agent"
	kubelet     = `curl -sk -o /dev/null -w '%{http_code}' https://NODE:10250/pods`
	proxyClient = ` --cert ` + k3sAgent + `/client-kube-proxy.crt --key ` + k3sAgent + `/client-kube-proxy.key`
	withForeign = `d=$(mktemp -d); openssl req -x509 -newkey rsa:2048 -nodes -subj /O=system:masters/CN=foreign ` +
		`-keyout $d/key -out $d/crt 2>/dev/null; ` + kubelet + ` --cert $d/crt --key $d/key; rm -r $d`
	fingerprint = `openssl x509 -noout -fingerprint -sha256`
	shown       = `openssl s_client -connect NODE:10250 </dev/null 2>/dev/null | ` + fingerprint
	pullSecrets = `kubectl --kubeconfig=/etc/rancher/k3s/k3s.yaml get serviceaccounts,pods -A -o ` +
		`jsonpath='{.items[*].imagePullSecrets}{.items[*].spec.imagePullSecrets}'; echo $?`
	timeout = `journalctl -u k3s -o cat | grep 'Running kube-apiserver' | tail -n 1 | ` +
		`grep -o -e '--request-timeout=[^ ]*' -e '--secure-port=[^ ]*'`
	readOnlyPort = `for a in 127.0.0.1 NODE; do curl -s -m 3 http://$a:10255/pods; echo $?; done`
	handshakes   = `for c in ECDHE-ECDSA-AES128-GCM-SHA256 'ALL:!AESGCM:!CHACHA20:@SECLEVEL=0'; do ` +
		`openssl s_client -tls1_2 -cipher "$c" -connect NODE:10250 </dev/null >/dev/null 2>&1; echo $?; done`
)

// excepted are the checks that do not pass, and why that is no finding: a command for the machine with what it has to
// print. k3s gives the kubelet most settings in a file since 1.32, and kube-bench reads the logged command line alone.
var excepted = map[string][]struct{ why, command, want string }{
	"1.2.11": {{"AlwaysPullImages guards images that need credentials: nothing here has any", pullSecrets, "0"}},
	"1.2.21": {{"the request timeout is the default of a minute, which CIS asks for", timeout, "--secure-port=6444"}},
	"4.2.1":  {{"nobody reads from the kubelet without a certificate", kubelet, "401"}},
	"4.2.2":  {{"a certificate alone allows nothing: the API server is asked", kubelet + proxyClient, "403"}},
	"4.2.3": {
		{"the cluster's certificates are known to the kubelet", kubelet + proxyClient, "403"},
		{"others are not", withForeign, "401"},
	},
	"4.2.9": {{
		"the kubelet shows its own certificate",
		`[ "$(` + shown + `)" = "$(` + fingerprint + ` -in ` + k3sAgent + `/serving-kubelet.crt)" ] && echo same`, "same",
	}},
	// This one passes where the flag is merely absent: k3s 1.32.0 to 1.32.3 opened the port (CVE-2025-46599).
	"4.2.4": {{"the read-only port is shut", readOnlyPort, "7\n7"}},
	// The flag is the last one of the logged line, whose closing quote is taken for a part of its value.
	"4.2.12": {{"a strong cipher is spoken and no other", handshakes, "0\n1"}},
}

// TestBenchmark runs kube-bench on every node of the cluster: each check that looks at something passes, or is proven
// to be wrong. Those that a person has to answer are not counted.
func TestBenchmark(t *testing.T) {
	l := running(t)
	cache, err := artifacts.Open(l.Cache)
	if err != nil {
		t.Fatal(err)
	}
	program, checks, err := cache.Benchmark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range l.Machines {
		targets, fewest := "master,etcd,controlplane,node", 69
		switch {
		case slices.Contains(m.Roles, "agent"):
			targets, fewest = "node", 13
		case !slices.Contains(m.Roles, "server"):
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			// Two checks look at the files of pods' addresses: a node without pods has none.
			const namespace = "default"
			pod := "benchmark-" + m.Name
			startClientOn(t, l, m.Name, namespace, pod, "")
			defer discard(t, l, "--namespace="+namespace, "pod", pod)
			bench := install(t, l, m, program, checks)
			passed := 0
			for _, c := range bench(targets) {
				switch _, known := excepted[c.ID]; {
				case c.Type != "" || c.Audit+c.Config == "":
				case c.Status == "PASS":
					passed++
				case !known:
					t.Errorf("%s %s: %s: found %q: %s", c.ID, c.Text, c.Status, c.Actual, c.Reason)
				}
			}
			for id, proofs := range excepted {
				for _, p := range proofs {
					if targets == "node" && !strings.HasPrefix(id, "4.") {
						continue
					}
					command := strings.ReplaceAll(p.command, "NODE", m.IPv4)
					got, err := sshTo(t.Context(), l, layout.OnOperator(), m, m.FQDN(), command)
					if strings.TrimSpace(got) != p.want {
						t.Errorf("%s: %s: no longer proven: %q prints %q (%v), want %q", id, p.why, command, got, err, p.want)
					}
				}
			}
			if t.Logf("%d checks pass", passed); passed < fewest {
				t.Errorf("%d checks pass, at least %d did: does kube-bench find what it looks at?", passed, fewest)
			}
			// It has to be able to fail.
			const open = k3sAgent + "/kubelet.kubeconfig"
			on(t, l, m, "chmod 644 "+open)
			defer on(t, l, m, "chmod 600 "+open)
			if !slices.ContainsFunc(bench(targets), func(c check) bool { return c.ID == "4.1.5" && c.Status == "FAIL" }) {
				t.Errorf("%s is readable to everybody, and kube-bench passes it", open)
			}
		})
	}
}

// install puts kube-bench on a machine for the time of the test and returns how it is run.
func install(t *testing.T, l *lab, m layout.Machine, program, checks string) func(targets string) []check {
	t.Helper()
	const at = "/opt/kube-bench"
	folder := filepath.Join(l.Machine(m), "root", at)
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	err := errors.Join(file.Mirror(checks, filepath.Join(folder, "cfg")),
		file.Mirror(program, filepath.Join(folder, "kube-bench")))
	if err != nil {
		t.Fatal(err)
	}
	return func(targets string) []check {
		t.Helper()
		on(t, l, m, at+"/kube-bench run --config-dir "+at+"/cfg --benchmark "+cis+" --targets "+targets+
			" --json --outputfile "+at+"/result.json")
		text, err := os.ReadFile(filepath.Join(folder, "result.json"))
		if err != nil {
			t.Fatal(err)
		}
		var result struct {
			Controls []struct {
				Tests []struct{ Results []check }
			}
		}
		if err := json.Unmarshal(text, &result); err != nil {
			t.Fatal(err)
		}
		var all []check
		for _, control := range result.Controls {
			for _, group := range control.Tests {
				all = append(all, group.Results...)
			}
		}
		return all
	}
}
