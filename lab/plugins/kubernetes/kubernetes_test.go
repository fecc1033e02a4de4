package kubernetes_test

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/status"

	"github.com/tinyrack-net/infrastructure/lab/plugins/kubernetes"
	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
)

const (
	secretToken     = "kubernetes:core/v1:Secret"
	configMapToken  = "kubernetes:core/v1:ConfigMap"
	namespaceToken  = "kubernetes:core/v1:Namespace"
	deploymentToken = "kubernetes:apps/v1:Deployment"
	crdToken        = "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition"
	fluxToken       = "kubernetes:fluxcd.controlplane.io/v1:FluxInstance"
)

func start(t *testing.T, s *server, with map[string]any) *plugintest.Plugin {
	t.Helper()
	config := map[string]any{"kubeconfig": s.kubeconfig(), "clusterIdentifier": "test", "enableServerSideApply": true}
	for name, value := range with {
		config[name] = value
	}
	return plugintest.Start(t, kubernetes.New, plugintest.Map(config))
}

// object is an object's inputs; with are its top-level fields beside these.
func object(apiVersion, kind, namespace, name string, annotations, with map[string]any) resource.PropertyMap {
	metadata := map[string]any{"name": name}
	if namespace != "" {
		metadata["namespace"] = namespace
	}
	if annotations != nil {
		metadata["annotations"] = annotations
	}
	values := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": metadata}
	for name, value := range with {
		values[name] = value
	}
	return plugintest.Map(values)
}

func TestSecret(t *testing.T) {
	s := newServer(t)
	p := start(t, s, nil)
	in := p.Check(secretToken, object("v1", "Secret", "ns", "s", nil,
		map[string]any{"stringData": map[string]any{"key": "value"}}))
	if !in["stringData"].IsSecret() {
		t.Error("stringData is not secret after Check")
	}
	if plan := p.PreviewCreate(secretToken, in); s.writes != 0 || !plan["stringData"].IsSecret() {
		t.Errorf("preview: %d writes, stringData %s", s.writes, plan["stringData"].TypeString())
	}
	id, state := p.Create(secretToken, in)
	if id != "ns/s" || !state["stringData"].IsSecret() {
		t.Errorf("id %q, stringData %s", id, state["stringData"].TypeString())
	}
	if data, _ := s.patched["data"].(map[string]any); data["key"] != "dmFsdWU=" || s.patched["stringData"] != nil {
		t.Errorf("applied %v, want the data encoded", s.patched)
	}
	if readID, inputs, read := p.Read(secretToken, id, in, state); readID != id || !inputs.DeepEquals(in) ||
		!read.DeepEquals(state) {
		t.Errorf("a refresh changes\n%v\n%v\nto\n%v\n%v", in, state, inputs, read)
	}
	s.objects["Secret/ns/s"]["data"] = map[string]any{"key": "b3RoZXI="}
	_, inputs, _ := p.Read(secretToken, id, in, state)
	if !inputs["stringData"].IsSecret() || inputs["stringData"].SecretValue().Element.ObjectValue()["key"].V != "other" {
		t.Error("drift of a Secret is not seen, or not secret")
	}
	if diff := p.Diff(secretToken, inputs, in); len(diff.GetReplaces()) != 1 || !diff.GetDeleteBeforeReplace() {
		t.Errorf("a Secret's data is immutable by default: %v", diff)
	}
	if diff := start(t, s, map[string]any{"enableSecretMutable": true}).Diff(secretToken, inputs,
		in); len(diff.GetDiffs()) != 1 || len(diff.GetReplaces()) != 0 {
		t.Errorf("enableSecretMutable must update in place: %v", diff)
	}
	if err := p.Delete(secretToken, id, in, state); err != nil || s.objects["Secret/ns/s"] != nil ||
		s.deleted[0] != "Foreground" {
		t.Errorf("delete: %v, left %v, policies %v", err, s.objects, s.deleted)
	}
	if gone, _, _ := p.Read(secretToken, id, in, state); gone != "" {
		t.Error("a deleted object is still there")
	}
	if err := p.Delete(secretToken, id, in, state); err != nil {
		t.Errorf("deleting it again: %v", err)
	}
}

func TestUpdateKeepsItsFieldManager(t *testing.T) {
	s := newServer(t)
	p := start(t, s, map[string]any{"enableConfigMapMutable": true})
	in := p.Check(configMapToken, object("v1", "ConfigMap", "ns", "c", nil,
		map[string]any{"data": map[string]any{"a": "1"}}))
	id, state := p.Create(configMapToken, in)
	news := p.Check(configMapToken, object("v1", "ConfigMap", "ns", "c", nil,
		map[string]any{"data": map[string]any{"a": "2"}}))
	if _, err := p.Update(configMapToken, id, state, in, news, true); err != nil || s.writes != 1 {
		t.Errorf("a preview wrote: %v, %d writes", err, s.writes)
	}
	if _, err := p.Update(configMapToken, id, state, in, news, false); err != nil {
		t.Fatal(err)
	}
	if len(s.applied) != 2 || s.applied[0] != s.applied[1] || !strings.HasPrefix(s.applied[0], "pulumi-kubernetes-") {
		t.Errorf("field managers %q, want the same twice", s.applied)
	}
}

func TestExistingObjects(t *testing.T) {
	s := newServer(t)
	in := object("v1", "ConfigMap", "ns", "c", nil, map[string]any{"data": map[string]any{"a": "1"}})
	start(t, s, nil).Create(configMapToken, in)

	_, _, err := start(t, s, nil).TryCreate(configMapToken, in)
	if err == nil || !strings.Contains(err.Error(), `configmap "ns/c" already exists`) ||
		!strings.Contains(err.Error(), "upsertExistingObjects") {
		t.Errorf("error %v, want the refusal and its way out", err)
	}
	start(t, s, map[string]any{"upsertExistingObjects": true}).Create(configMapToken, in)

	s.foreign["ConfigMap/ns/c"] = true
	_, _, err = start(t, s, map[string]any{"upsertExistingObjects": true}).TryCreate(configMapToken, in)
	if err == nil || !strings.Contains(err.Error(), `conflict with "theirs"`) {
		t.Errorf("error %v, want the conflict", err)
	}
	forced := object("v1", "ConfigMap", "ns", "c", map[string]any{"pulumi.com/patchForce": "true"},
		map[string]any{"data": map[string]any{"a": "1"}})
	start(t, s, map[string]any{"upsertExistingObjects": true}).Create(configMapToken, forced)
}

func deployment(annotations map[string]any) resource.PropertyMap {
	return object("apps/v1", "Deployment", "ns", "d", annotations, map[string]any{"spec": map[string]any{
		"replicas": 2.0, "selector": map[string]any{"matchLabels": map[string]any{"app": "d"}},
	}})
}

func TestDeploymentWaitsForItsRollout(t *testing.T) {
	s := newServer(t)
	s.onGet = func(n int, obj map[string]any) {
		ready := 0.0
		if n > 3 {
			ready = 2
		}
		obj["status"] = map[string]any{
			"observedGeneration": 1.0, "replicas": 2.0, "updatedReplicas": 2.0,
			"availableReplicas": ready,
		}
	}
	p := start(t, s, nil)
	p.Create(deploymentToken, p.Check(deploymentToken, deployment(nil)))
	if s.gets < 4 {
		t.Errorf("%d looks: it did not wait", s.gets)
	}
	if logs := p.Logs(); !strings.Contains(logs, "2 of 2 replicas updated, 0 available") {
		t.Errorf("logs %q, want the progress", logs)
	}
	if kept, _ := s.patched["spec"].(map[string]any); kept["replicas"] != 2.0 {
		t.Errorf("applied %v", s.patched)
	}

	skipped := newServer(t)
	q := start(t, skipped, nil)
	q.Create(deploymentToken, q.Check(deploymentToken, deployment(map[string]any{"pulumi.com/skipAwait": "true"})))
	if skipped.gets > 1 {
		t.Errorf("%d looks in spite of skipAwait", skipped.gets)
	}
}

// initError returns the detail by which the engine keeps the object.
func initError(t *testing.T, err error) *pulumirpc.ErrorResourceInitFailed {
	t.Helper()
	for _, detail := range status.Convert(err).Details() {
		if failed, ok := detail.(*pulumirpc.ErrorResourceInitFailed); ok {
			return failed
		}
	}
	t.Fatalf("%v is no partial failure", err)
	return nil
}

func TestFailedRolloutIsAPartialFailure(t *testing.T) {
	s := newServer(t)
	s.objects["Pod/ns/d-1"] = map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "d-1", "namespace": "ns"},
		"status": map[string]any{"containerStatuses": []any{map[string]any{
			"name":  "main",
			"state": map[string]any{"waiting": map[string]any{"reason": "ImagePullBackOff", "message": "no such image"}},
		}}},
	}
	s.onGet = func(_ int, obj map[string]any) {
		obj["status"] = map[string]any{"observedGeneration": 1.0, "conditions": []any{map[string]any{
			"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too slow",
		}}}
	}
	p := start(t, s, nil)
	_, _, err := p.TryCreate(deploymentToken, p.Check(deploymentToken, deployment(nil)))
	failed := initError(t, err)
	text := strings.Join(failed.GetReasons(), " ")
	for _, want := range []string{"ProgressDeadlineExceeded: too slow", "pod d-1, container main: ImagePullBackOff: no " +
		"such image"} {
		if !strings.Contains(text, want) {
			t.Errorf("reasons %q, want %q", text, want)
		}
	}
	if failed.GetId() != "ns/d" || len(failed.GetInputs().GetFields()) == 0 ||
		len(failed.GetProperties().GetFields()) == 0 {
		t.Errorf("id %q, want it with inputs and state", failed.GetId())
	}

	s.onGet = nil
	slow := deployment(map[string]any{"pulumi.com/timeoutSeconds": "1"})
	slow["metadata"].ObjectValue()["name"] = resource.NewProperty("slow")
	_, _, err = p.TryCreate(deploymentToken, p.Check(deploymentToken, slow))
	if text := strings.Join(initError(t, err).GetReasons(), " "); !strings.Contains(text, "timed out after 1s") {
		t.Errorf("reasons %q, want the time-out", text)
	}
}

func TestDefinitionBringsItsKind(t *testing.T) {
	s := newServer(t)
	s.afterCRD = []kind{{"fluxcd.controlplane.io", "v1", "FluxInstance", "fluxinstances", true}}
	s.onGet = func(n int, obj map[string]any) {
		if obj["kind"] == "FluxInstance" && n > 5 {
			obj["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}
		}
	}
	p := start(t, s, nil)
	// The provider has looked at the kinds before the definition is there.
	p.Create(namespaceToken, p.Check(namespaceToken, object("v1", "Namespace", "", "flux-system", nil, nil)))
	p.Create(crdToken, p.Check(crdToken, object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "x", nil,
		map[string]any{"spec": map[string]any{}})))
	in := p.Check(fluxToken, object("fluxcd.controlplane.io/v1", "FluxInstance", "flux-system", "flux",
		map[string]any{"pulumi.com/waitFor": "condition=Ready"}, map[string]any{"spec": map[string]any{"a": 1.0}}))
	id, state := p.Create(fluxToken, in)
	if id != "flux-system/flux" || s.gets < 6 {
		t.Errorf("id %q after %d looks", id, s.gets)
	}
	if spec, _ := s.patched["spec"].(map[string]any); spec["a"] != 1.0 {
		t.Errorf("applied %v", s.patched)
	}

	// With the definition its objects are gone too.
	s.mu.Lock()
	s.kinds = s.kinds[:len(s.kinds)-1]
	s.mu.Unlock()
	if err := start(t, s, nil).Delete(fluxToken, id, in, state); err != nil {
		t.Errorf("delete of an object whose kind is gone: %v", err)
	}
}

func TestDeleteWaitsForFinalizers(t *testing.T) {
	s := newServer(t)
	p := start(t, s, nil)
	in := p.Check(namespaceToken, object("v1", "Namespace", "", "n", map[string]any{"pulumi.com/timeoutSeconds": "1"},
		nil))
	id, state := p.Create(namespaceToken, in)
	s.objects["Namespace/n"]["metadata"].(map[string]any)["finalizers"] = []any{"example.org/hold"}
	err := p.Delete(namespaceToken, id, in, state)
	if err == nil || !strings.Contains(err.Error(), "example.org/hold") ||
		!strings.Contains(err.Error(), "timed out after 1s") {
		t.Errorf("error %v, want the finalizer that holds it", err)
	}
	go func() {
		time.Sleep(500 * time.Millisecond)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.objects, "Namespace/n")
	}()
	if err := p.Delete(namespaceToken, id, in, state); err != nil {
		t.Error(err)
	}
}

// A preview, and all that the engine asks before it, needs no cluster.
func TestPreviewWithoutACluster(t *testing.T) {
	config := map[string]any{"kubeconfig": kubeconfigFor("http://127.0.0.1:1"), "clusterIdentifier": "x"}
	p := plugintest.Start(t, kubernetes.New, plugintest.Map(config))
	in := p.Check(configMapToken, object("v1", "ConfigMap", "ns", "c", nil,
		map[string]any{"data": map[string]any{"a": "1"}}))
	state := p.PreviewCreate(configMapToken, in)
	other := object("v1", "ConfigMap", "ns", "c", nil, map[string]any{"data": map[string]any{"a": "2"}})
	if diff := p.Diff(configMapToken, in, other); len(diff.GetDiffs()) != 1 {
		t.Errorf("diff %v", diff)
	}
	if _, err := p.Update(configMapToken, "ns/c", state, in, other, true); err != nil {
		t.Error(err)
	}

	begin := time.Now()
	if _, _, err := p.TryCreate(configMapToken, in); err == nil ||
		!strings.Contains(err.Error(), "configured Kubernetes cluster is unreachable") {
		t.Errorf("error %v, want unreachable", err)
	}
	if err := p.Delete(configMapToken, "ns/c", in, state); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("error %v, want unreachable", err)
	}
	config["deleteUnreachable"] = true
	if err := plugintest.Start(t, kubernetes.New, plugintest.Map(config)).Delete(configMapToken, "ns/c", in,
		state); err != nil {
		t.Errorf("deleteUnreachable: %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("an unreachable cluster held things up for %s", took)
	}
}

// A refresh that drops a cluster which does not answer asks it once, whatever it holds.
func TestACompleteLossIsFoundOnce(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var asked atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			_ = conn.Close()
		}
	}()
	for _, drop := range []bool{true, false} {
		p := plugintest.Start(t, kubernetes.New, plugintest.Map(map[string]any{
			"kubeconfig": kubeconfigFor("http://" + listener.Addr().String()), "clusterIdentifier": "x",
			"deleteUnreachable": drop, "skipUpdateUnreachable": !drop,
		}))
		in := object("v1", "ConfigMap", "ns", "c", nil, map[string]any{"data": map[string]any{"a": "1"}})
		for look := range 2 {
			if id, _, _ := p.Read(configMapToken, "ns/c", in, in); (id == "") != drop {
				t.Errorf("dropped: %v, want %v", id == "", drop)
			}
			if times := asked.Swap(0); (times == 0) != (drop && look == 1) {
				t.Errorf("look %d, dropped %v: it was asked %d times", look, drop, times)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	p := plugintest.Start(t, kubernetes.New, nil)
	for name, c := range map[string]struct {
		token  string
		inputs resource.PropertyMap
		want   string
	}{
		"no name":       {configMapToken, object("v1", "ConfigMap", "ns", "", nil, nil), "metadata.name is missing"},
		"other kind":    {configMapToken, object("v1", "Secret", "ns", "c", nil, nil), `kind is "Secret"`},
		"other version": {configMapToken, object("v2", "ConfigMap", "ns", "c", nil, nil), `apiVersion is "v2"`},
		"bad waitFor": {
			configMapToken,
			object("v1", "ConfigMap", "ns", "c", map[string]any{"pulumi.com/waitFor": "ready"}, nil),
			"neither condition",
		},
	} {
		_, failures, err := p.TryCheck(c.token, c.inputs)
		if err != nil || len(failures) != 1 || !strings.Contains(failures[0], c.want) {
			t.Errorf("%s: %v %q, want %q", name, err, failures, c.want)
		}
	}
	for _, token := range []string{
		"kubernetes:helm.sh/v3:Release", "kubernetes:yaml/v2:ConfigFile",
		"kubernetes:core/v1:SecretPatch",
	} {
		if _, _, err := p.TryCheck(token, nil); err == nil || !strings.Contains(err.Error(), "does not support") {
			t.Errorf("%s: %v, want a refusal", token, err)
		}
	}
	if _, _, err := p.TryCreate(configMapToken, object("v1", "ConfigMap", "ns", "c", nil, nil)); err == nil ||
		!strings.Contains(err.Error(), "has no kubeconfig") {
		t.Errorf("without a kubeconfig: %v", err)
	}
	if _, failures := p.CheckConfig("kubernetes",
		plugintest.Map(map[string]any{"renderYamlToDirectory": "x"})); len(failures) != 1 {
		t.Errorf("failures %q, want renderYamlToDirectory refused", failures)
	}
	if _, err := plugintest.Unconfigured(t,
		kubernetes.New).Configure(plugintest.Map(map[string]any{"enableServerSideApply": false})); err == nil {
		t.Error("client-side apply is not refused")
	}
}

func TestAnotherClusterReplacesEverything(t *testing.T) {
	p := plugintest.Start(t, kubernetes.New, nil)
	for name, c := range map[string]struct {
		olds, news map[string]any
		replace    bool
	}{
		"same cluster, new " +
			"certificate": {
			map[string]any{"clusterIdentifier": "a", "kubeconfig": "1"},
			map[string]any{"clusterIdentifier": "a", "kubeconfig": "2"},
			false,
		},
		"another cluster": {
			map[string]any{"clusterIdentifier": "a", "kubeconfig": "1"},
			map[string]any{"clusterIdentifier": "b", "kubeconfig": "1"},
			true,
		},
		"no identifier": {map[string]any{"kubeconfig": "1"}, map[string]any{"kubeconfig": "2"}, true},
		"identifier is new": {
			map[string]any{"kubeconfig": "1"},
			map[string]any{"kubeconfig": "1", "clusterIdentifier": "a"},
			false,
		},
	} {
		diff := p.DiffConfig("kubernetes", plugintest.Map(c.olds), plugintest.Map(c.news))
		if got := len(diff.GetReplaces()) > 0; got != c.replace || len(diff.GetDiffs()) == 0 {
			t.Errorf("%s: %v", name, diff)
		}
	}
	unknown := plugintest.Map(map[string]any{"clusterIdentifier": "a"})
	unknown["kubeconfig"] = plugintest.Unknown()
	if diff := p.DiffConfig("kubernetes", plugintest.Map(map[string]any{"clusterIdentifier": "a", "kubeconfig": "1"}),
		unknown); len(diff.GetReplaces()) != 0 {
		t.Errorf("a kubeconfig that is not known yet replaces: %v", diff)
	}
}
