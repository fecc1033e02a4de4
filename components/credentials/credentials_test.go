package credentials

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
)

func record(t *testing.T, args *Args) *pulumitest.Recording {
	t.Helper()
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		var before, after pulumi.CustomResourceState
		if err := ctx.RegisterResource("test:index:Before", "before", nil, &before); err != nil {
			return err
		}
		args.DependsOn = []pulumi.Resource{&before}
		c, err := New(ctx, "c", args)
		if err != nil {
			return err
		}
		return ctx.RegisterResource("test:index:After", "after", nil, &after, pulumi.DependsOn(c.Done))
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

func testArgs() *Args {
	return &Args{
		Namespace: "flux-system", Name: "git",
		Data: map[string]pulumi.StringInput{"username": pulumi.String("u"), "password": pulumi.String("p")},
	}
}

func TestSecret(t *testing.T) {
	r := record(t, testArgs())
	if got := r.Names(); !reflect.DeepEqual(got, []string{"after", "before", "c-secret"}) {
		t.Errorf("registered %q", got)
	}
	secret := r.Get(t, "c-secret")
	want := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"namespace": "flux-system", "name": "git"},
		"stringData": map[string]any{"username": "u", "password": "p"},
	}
	if got := secret.Plain(); !reflect.DeepEqual(got, want) {
		t.Errorf("inputs %v", got)
	}
	after := r.Get(t, "after").DependsOn
	if got := fmt.Sprint(secret.Secrets(), secret.DependsOn, after); got != "[stringData] [before] [c-secret]" {
		t.Errorf("secrets, what is before, what is after: %s", got)
	}
	if secret.Parent != "c" {
		t.Errorf("parent %q", secret.Parent)
	}
}

func TestNamespace(t *testing.T) {
	args := testArgs()
	args.CreateNamespace, args.Protect, args.Type = true, true, "kubernetes.io/basic-auth"
	args.Labels = map[string]string{"a": "b"}
	r := record(t, args)
	namespace, secret := r.Get(t, "c-namespace"), r.Get(t, "c-secret")
	got := namespace.Plain()["metadata"]
	labels := map[string]any{"pod-security.kubernetes.io/enforce": "restricted"}
	if !reflect.DeepEqual(got, map[string]any{"name": "flux-system", "labels": labels}) || namespace.Parent != "c" {
		t.Errorf("metadata %v, parent %q", got, namespace.Parent)
	}
	if made, kept := namespace.RPC.GetProtect(), secret.RPC.GetProtect(); !made || kept {
		t.Errorf("protected: namespace %t, Secret %t, want the namespace alone", made, kept)
	}
	if got := namespace.RPC.GetDeletedWith() + secret.RPC.GetDeletedWith(); got != "" {
		t.Errorf("deleted with %s", got)
	}
	if fmt.Sprint(namespace.DependsOn, secret.DependsOn) != "[before] [before c-namespace]" {
		t.Errorf("order: %q, %q", namespace.DependsOn, secret.DependsOn)
	}
	metadata := map[string]any{"namespace": "flux-system", "name": "git", "labels": map[string]any{"a": "b"}}
	if got := secret.Plain(); got["type"] != "kubernetes.io/basic-auth" || !reflect.DeepEqual(got["metadata"], metadata) {
		t.Errorf("inputs %v", got)
	}
}

// TestPrivilegedNamespace makes a namespace whose pods may ask for everything, and looks for the reason on it.
func TestPrivilegedNamespace(t *testing.T) {
	args := testArgs()
	args.CreateNamespace, args.Privileged = true, "for a reason"
	want := map[string]any{
		"name":        "flux-system",
		"labels":      map[string]any{"pod-security.kubernetes.io/enforce": "privileged"},
		"annotations": map[string]any{"pod-security.tinyrack.net/reason": "for a reason"},
	}
	if got := record(t, args).Get(t, "c-namespace").Plain()["metadata"]; !reflect.DeepEqual(got, want) {
		t.Errorf("metadata %v", got)
	}
}

// What goes with the cluster is not waited for one by one.
func TestDeletedWith(t *testing.T) {
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		var cluster pulumi.CustomResourceState
		if err := ctx.RegisterResource("test:index:Cluster", "cluster", nil, &cluster); err != nil {
			return err
		}
		args := testArgs()
		args.CreateNamespace, args.DeletedWith = true, &cluster
		_, err := New(ctx, "c", args)
		return err
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"c-namespace", "c-secret"} {
		if got := recording.Get(t, name).RPC.GetDeletedWith(); !strings.HasSuffix(got, "::cluster") {
			t.Errorf("%s is deleted with %q", name, got)
		}
	}
}

func TestCredentialsAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Args)
		want   string
	}{
		"namespace": {func(a *Args) { a.Namespace = "A" }, `namespace: "A"`},
		"name":      {func(a *Args) { a.Name = "a_b" }, `name: "a_b"`},
		"no data":   {func(a *Args) { a.Data = nil }, "data: missing"},
		"key":       {func(a *Args) { a.Data["a b"] = pulumi.String("canary") }, `data: "a b"`},
		"nothing":   {func(a *Args) { a.Data["token"] = nil }, "data.token: missing"},
	} {
		t.Run(name, func(t *testing.T) {
			args := testArgs()
			tt.change(args)
			r, err := pulumitest.Run(func(ctx *pulumi.Context) error {
				_, err := New(ctx, "c", args)
				return err
			}, nil)
			if err == nil || !strings.Contains(err.Error(), `credentials "c": `+tt.want) {
				t.Errorf("got %v", err)
			} else if strings.Contains(err.Error(), "canary") {
				t.Errorf("a secret is shown: %v", err)
			}
			if len(r.Names()) != 0 {
				t.Errorf("registered %q", r.Names())
			}
		})
	}
	if err := (&Args{}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not all problems at once: %v", err)
	}
}
