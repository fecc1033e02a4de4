package main

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/progress"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
)

func names(tasks []progress.Task) []string {
	var names []string
	for _, task := range tasks {
		name := task.Name
		if task.Beside {
			name += " beside"
		}
		if task.Joins {
			name = "after all " + name
		}
		names = append(names, name)
	}
	return names
}

// Each step needs what those before it made.
func TestUpIsTheseSteps(t *testing.T) {
	l, err := open(layout.Layout{State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	got := names(provisioning(l, nil, pulumi.Plugins{}, nil))
	want := []string{
		"host tools", "lab programs beside", "program beside", "artifacts",
		"network", "tailnet control server", "clouds and artifact server", "operator's device beside", "object storage",
		"git server",
		"machines beside", "site repository", "after all pulumi up", "machines that left", "webhook", "kubeconfig",
	}
	if !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
}

// A site whose settings are gone can be taken down, and nothing else.
func TestUpWithoutSettings(t *testing.T) {
	at := layout.Layout{State: t.TempDir(), Stack: "acme", Settings: "/checkout/Pulumi.acme.yaml"}
	// Were it not refused, this host would not be taken all the same.
	if err := os.WriteFile(at.Mark(), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := up(t.Context(), at)
	if err == nil || !strings.Contains(err.Error(), "Pulumi.acme.yaml: the site that the lab holds is no more in this") {
		t.Errorf("got %v", err)
	}
}

func TestOpenIsOfOneLab(t *testing.T) {
	at := layout.Layout{Checkout: "/checkout", State: t.TempDir(), Stack: "acme", Settings: "/settings.yaml"}
	first, err := open(at)
	if err != nil {
		t.Fatal(err)
	}
	second, err := open(at)
	if err != nil || !reflect.DeepEqual(first.secrets, second.secrets) {
		t.Errorf("opened twice it has other secrets: %v", err)
	}
	if s := first.stack; s.Project != "tinyrack" || s.Name != "acme" || s.Dir != at.Pulumi() ||
		s.Checkout != "/checkout" || s.Settings != "/settings.yaml" ||
		!slices.Equal(s.Network, []string{"ip", "netns", "exec", "tinyrack-operator"}) {
		t.Errorf("its stack is %+v", s)
	}
	if first.runner.Dir != at.Run() || first.runner.Logs != at.Logs() {
		t.Errorf("its runner is %+v", first.runner)
	}
}
