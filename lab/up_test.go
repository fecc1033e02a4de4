package main

import (
	"reflect"
	"slices"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/progress"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
)

func names(tasks []progress.Task) []string {
	var names []string
	for _, task := range tasks {
		names = append(names, task.Name)
	}
	return names
}

// Each step needs what those before it made.
func TestUpIsTheseSteps(t *testing.T) {
	l, err := open(layout.Layout{State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	got := append(names(preparation(l)), names(provisioning(l, pulumi.Plugins{}))...)
	want := []string{
		"host tools", "lab programs",
		"network", "tailnet control server", "clouds and artifact server", "operator's device", "object storage",
		"git server",
		"machines", "site repository", "program", "pulumi up", "machines that left", "webhook", "kubeconfig",
	}
	if !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
}

func TestOpenIsOfOneLab(t *testing.T) {
	at := layout.Layout{State: t.TempDir(), Checkout: "/checkout", Settings: "/settings.yaml"}
	first, err := open(at)
	if err != nil {
		t.Fatal(err)
	}
	second, err := open(at)
	if err != nil || !reflect.DeepEqual(first.secrets, second.secrets) {
		t.Errorf("opened twice it has other secrets: %v", err)
	}
	if s := first.stack; s.Project != "tinyrack" || s.Name != "lab" || s.Dir != at.Pulumi() || s.Checkout != "/checkout" ||
		s.Settings != "/settings.yaml" ||
		!slices.Equal(s.Network, []string{"ip", "netns", "exec", "tinyrack-operator"}) {
		t.Errorf("its stack is %+v", s)
	}
	if first.runner.Dir != at.Run() || first.runner.Logs != at.Logs() {
		t.Errorf("its runner is %+v", first.runner)
	}
}
