package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/progress"
)

// summary shows what exists now, how to look at it, and where the time went.
func (l *lab) summary(out io.Writer, report *progress.Report) error {
	spans, err := l.stack.spans()
	if err != nil {
		return err
	}
	changes := map[string]int{}
	for _, s := range spans {
		changes[s.op]++
	}
	fmt.Fprintf(out, "\nThe site is up: %s.\n\n", strings.Join(counted(changes), ", "))
	rows := [][2]string{
		{"machine", machine.Address + " (public side), SSH with " + l.path("machine.key")},
		{"kubernetes", "export KUBECONFIG=" + l.path("kubeconfig") + "; " + l.path("bin", "kubectl") + " get pods --all-namespaces"},
		{"git", gitURL + " (user " + giteaUser + ", token in " + l.path("git-credentials") + ")"},
		{"clouds", "http://" + cloudflareAddr + "/lab/state and http://" + tailscaleAddr + "/lab/state (emulated)"},
		{"snapshots", "http://" + s3Addr + "/" + bucket},
		{"stack", l.stack.config() + " with the backend file://" + l.stack.path("backend")},
		{"logs", l.path("logs")},
		{"next", "make status, make e2e, make down"},
	}
	for _, r := range rows {
		fmt.Fprintf(out, "  %-11s %s\n", r[0], r[1])
	}
	if err := writeFile(l.path("machine.key"), []byte(l.secrets.MachineKey), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nWhere the time went (%s):\n%s", report.Elapsed().Round(100*time.Millisecond), report.Waterfall(48, 200*time.Millisecond))
	if bars := resourceSpans(spans); len(bars) > 0 {
		fmt.Fprintf(out, "\nand in pulumi up:\n%s", progress.Waterfall(bars, 48, 2*time.Second))
	}
	return nil
}

// resourceSpans are the stack's changed resources as spans of one time axis. The engine's clock ticks in seconds.
func resourceSpans(spans []span) []progress.Span {
	var bars []progress.Span
	var first time.Time
	for _, s := range spans {
		if !s.start.IsZero() && (first.IsZero() || s.start.Before(first)) {
			first = s.start
		}
	}
	for _, s := range spans {
		if s.op == "same" || s.start.IsZero() {
			continue
		}
		parts := strings.Split(s.urn, "::")
		bars = append(bars, progress.Span{Name: parts[len(parts)-1], Start: s.start.Sub(first), End: s.end.Sub(first)})
	}
	return bars
}

// counted turns {"same": 3, "create": 1} into "1 create", "3 same".
func counted(changes map[string]int) []string {
	var list []string
	for _, op := range slices.Sorted(maps.Keys(changes)) {
		list = append(list, fmt.Sprintf("%d %s", changes[op], op))
	}
	return list
}
