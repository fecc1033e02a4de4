// Package summary tells, after `up`, what exists now, how to look at it, and where the time went.
package summary

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/progress"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
)

// Print prints the summary of the run that the report is of.
func Print(out io.Writer, l layout.Layout, stack *pulumi.Stack, report *progress.Report) error {
	spans, err := stack.Spans()
	if err != nil {
		return err
	}
	changes := map[string]int{}
	for _, s := range spans {
		changes[s.Op]++
	}
	fmt.Fprintf(out, "\nThe site is up: %s.\n\n", strings.Join(counted(changes), ", "))
	for _, r := range rows(l, stack) {
		fmt.Fprintf(out, "  %-11s %s\n", r[0], r[1])
	}
	fmt.Fprintf(out, "\nWhere the time went (%s):\n%s", report.Elapsed().Round(100*time.Millisecond),
		report.Waterfall(48, 200*time.Millisecond))
	if changed := bars(spans); len(changed) > 0 {
		fmt.Fprintf(out, "\nand in pulumi up:\n%s", progress.Waterfall(changed, 48, 2*time.Second))
	}
	return nil
}

func rows(l layout.Layout, stack *pulumi.Stack) [][2]string {
	var rows [][2]string
	for _, m := range l.Machines {
		rows = append(rows, [2]string{"machine", m.IPv4 + " (public side): " + strings.Join(layout.OnOperator("ssh"), " ") +
			" -i " + l.MachineKey() + " root@" + m.FQDN()})
	}
	notes := "notes." + layout.Zone
	return append(rows, [][2]string{
		{"visit", fmt.Sprintf("curl --cacert %s --resolve %s:443:%s https://%s/", l.CA(), notes, layout.HostIP, notes)},
		{"kubernetes", strings.Join(kubectl.Line(l), " ") + " get pods --all-namespaces"},
		{"git", layout.GitURL + " (user " + layout.GitUser + ", token in " + l.GitCredentials() + ")"},
		{"clouds", fmt.Sprintf("http://%s/lab/state and http://%s/lab/state (emulated)",
			layout.CloudflareAddr, layout.TailscaleAddr)},
		{"snapshots", "http://" + layout.S3Addr + "/" + layout.Bucket},
		{"stack", stack.Config() + " with the backend " + stack.BackendURL()},
		{"logs", l.Logs()},
		{"next", "make status, make e2e, make down"},
	}...)
}

// bars are the stack's changed resources as spans of one time axis. The engine's clock ticks in seconds.
func bars(spans []pulumi.Span) []progress.Span {
	var bars []progress.Span
	var first time.Time
	for _, s := range spans {
		if !s.Start.IsZero() && (first.IsZero() || s.Start.Before(first)) {
			first = s.Start
		}
	}
	for _, s := range spans {
		if s.Op == "same" || s.Start.IsZero() {
			continue
		}
		bars = append(bars, progress.Span{Name: s.Name(), Start: s.Start.Sub(first), End: s.End.Sub(first)})
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
