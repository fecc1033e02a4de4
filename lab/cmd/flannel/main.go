// Command flannel is the CNI plugin that joins a pod to flannel's network. k3s bundles upstream's, which no package
// registry holds; this one does the same for the lab: it reads the subnet that flannel leased and hands the work to
// bridge.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const subnetFile = "/run/flannel/subnet.env"

func main() {
	// What host-local, which bridge runs, notes of each pod is for root alone, as releases since 1.4 write it; Debian's is
	// older.
	syscall.Umask(0o077)
	if err := run(); err != nil {
		// The CNI specification wants errors as JSON on stdout.
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"cniVersion": "1.0.0", "code": 100, "msg": err.Error()})
		os.Exit(1)
	}
}

func run() error {
	var in struct {
		CNIVersion string         `json:"cniVersion"`
		Name       string         `json:"name"`
		Delegate   map[string]any `json:"delegate"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return fmt.Errorf("flannel: read the network configuration: %w", err)
	}
	config := in.Delegate
	if config == nil {
		config = map[string]any{}
	}
	config["cniVersion"], config["name"], config["type"] = in.CNIVersion, in.Name, "bridge"
	if os.Getenv("CNI_COMMAND") != "VERSION" {
		if err := lease(config); err != nil {
			return err
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	bridge, err := find("bridge")
	if err != nil {
		return err
	}
	cmd := exec.Command(bridge) //nolint:gosec,noctx // found in the CNI path; the container runtime ends it
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		os.Exit(1) // bridge has written its own error to stdout
	}
	return nil
}

// lease adds flannel's subnet to the configuration of bridge.
func lease(config map[string]any) error {
	text, err := os.ReadFile(subnetFile)
	if err != nil {
		return fmt.Errorf("flannel: no subnet leased yet: %w", err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			env[k] = v
		}
	}
	gateway, err := netip.ParsePrefix(env["FLANNEL_SUBNET"])
	if err != nil {
		return fmt.Errorf("flannel: %s: FLANNEL_SUBNET: %w", subnetFile, err)
	}
	// FLANNEL_SUBNET is the gateway's address; host-local wants the network's.
	ipam := map[string]any{
		"type": "host-local", "ranges": [][]map[string]string{{{"subnet": gateway.Masked().String()}}},
		"routes": []map[string]string{},
	}
	if network := env["FLANNEL_NETWORK"]; network != "" {
		ipam["routes"] = []map[string]string{{"dst": network}}
	}
	config["ipam"] = ipam
	config["ipMasq"] = env["FLANNEL_IPMASQ"] == "false"
	config["isGateway"] = true
	if mtu := env["FLANNEL_MTU"]; mtu != "" {
		config["mtu"] = json.Number(mtu)
	}
	return nil
}

func find(plugin string) (string, error) {
	for _, dir := range filepath.SplitList(os.Getenv("CNI_PATH")) {
		path := filepath.Join(dir, plugin)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("flannel: plugin %q is not in CNI_PATH %q", plugin, os.Getenv("CNI_PATH"))
}
