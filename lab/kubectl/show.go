package kubectl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// resource is what is drawn of any object of the cluster.
type resource struct {
	Kind     string
	Metadata struct {
		Namespace, Name string
		OwnerReferences []struct{ Kind string }
	}
	Spec struct {
		Suspend   bool
		DependsOn []struct{ Name string }
		// Of a MariaDB's copies, those by the clock.
		Schedule any
	}
	Status struct {
		// Of a job by the clock.
		LastScheduleTime, LastSuccessfulTime time.Time

		Conditions          []condition
		LastAppliedRevision string
		History             []struct{ ChartVersion string }
		NodeInfo            struct{ KubeletVersion string }
		Phase               string
		// Of a store of databases' copies, by the name of the server.
		ServerRecoveryWindow map[string]struct {
			FirstRecoverabilityPoint, LastSuccessfulBackupTime, LastFailedBackupTime time.Time
		}
		ContainerStatuses []struct {
			RestartCount int
			State        struct {
				Waiting struct{ Reason, Message string }
			}
		}
	}
}

type condition struct {
	Type, Status, Reason, Message string
	LastTransitionTime            time.Time
}

// Show draws the cluster: its nodes, the layers that Flux applies in the order in which they wait for each other, the
// charts, and the pods that are not well. What is not Ready says why, and for how long.
func Show(ctx context.Context, l layout.Layout, out io.Writer) error {
	if _, err := os.Stat(l.Kubeconfig()); err != nil {
		return errors.New("there is no access to the cluster yet: `make up` has not come as far as k3s: run it again")
	}
	var errs []error
	for _, part := range []struct {
		title, kind string
		draw        func([]resource, time.Time) []string
	}{
		{"nodes", "nodes", nodes},
		{"layers", "kustomizations.kustomize.toolkit.fluxcd.io", layers},
		{"charts", "helmreleases.helm.toolkit.fluxcd.io", charts},
		{"databases", "clusters.postgresql.cnpg.io,mariadbs.k8s.mariadb.com", databases},
		{"copies of PostgreSQL", "objectstores.barmancloud.cnpg.io", copies},
		{"copies of MariaDB", "backups.k8s.mariadb.com,cronjobs.batch", dumps},
		{"pods", "pods", pods},
	} {
		text, err := Run(ctx, l, "get", part.kind, "--all-namespaces", "--output=json")
		var list struct{ Items []resource }
		if err == nil {
			err = json.Unmarshal([]byte(text), &list)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(out, "  %s\n", part.title)
		for _, line := range part.draw(list.Items, time.Now()) {
			fmt.Fprintf(out, "    %s\n", line)
		}
		fmt.Fprintln(out)
	}
	return errors.Join(errs...)
}

func nodes(all []resource, now time.Time) []string {
	var lines []string
	for _, r := range all {
		lines = append(lines, line(r.Metadata.Name, r.Status.NodeInfo.KubeletVersion, r, now))
	}
	return lines
}

// layers draws each layer below one that it waits for, once.
func layers(all []resource, now time.Time) []string {
	var lines []string
	drawn := map[string]bool{}
	var draw func(after string, depth int)
	draw = func(after string, depth int) {
		for _, r := range all {
			waits := len(r.Spec.DependsOn) > 0
			below := slices.ContainsFunc(r.Spec.DependsOn, func(d struct{ Name string }) bool { return d.Name == after })
			if drawn[r.Metadata.Name] || waits != (after != "") || after != "" && !below {
				continue
			}
			drawn[r.Metadata.Name] = true
			// main@sha1:0123456789abcdef… is more than anybody compares by eye.
			branch, commit, _ := strings.Cut(r.Status.LastAppliedRevision, "@sha1:")
			revision := branch
			if commit != "" {
				revision += "@" + commit[:min(7, len(commit))]
			}
			lines = append(lines, line(strings.Repeat("  ", depth)+r.Metadata.Name, revision, r, now))
			draw(r.Metadata.Name, depth+1)
		}
	}
	draw("", 0)
	return lines
}

func charts(all []resource, now time.Time) []string {
	var lines []string
	for _, r := range all {
		version := ""
		if len(r.Status.History) > 0 {
			version = r.Status.History[0].ChartVersion
		}
		lines = append(lines, line(r.Metadata.Namespace+"/"+r.Metadata.Name, version, r, now))
	}
	return lines
}

// databases draws them with what keeps one that answers from being well: that nothing it writes reaches S3.
func databases(all []resource, now time.Time) []string {
	var lines []string
	for _, r := range all {
		for _, c := range r.Status.Conditions {
			if c.Type == "ContinuousArchiving" && c.Status == "False" && r.ready().Status == "True" {
				c.Type = "Ready"
				r.Status.Conditions = []condition{c}
				break
			}
		}
		lines = append(lines, line(r.Metadata.Namespace+"/"+r.Metadata.Name, "", r, now))
	}
	return lines
}

// copies draws, for each database, how old its last whole copy is, and how far back it can be restored.
func copies(all []resource, now time.Time) []string {
	var lines []string
	for _, r := range all {
		if len(r.Status.ServerRecoveryWindow) == 0 {
			lines = append(lines, fmt.Sprintf("✗ %-38s nothing was copied yet", r.Metadata.Namespace+"/"+r.Metadata.Name))
		}
		for _, server := range slices.Sorted(maps.Keys(r.Status.ServerRecoveryWindow)) {
			window := r.Status.ServerRecoveryWindow[server]
			age := func(at time.Time) string { return now.Sub(at).Round(time.Second).String() }
			mark, text := "✓", fmt.Sprintf("copied %s ago, can be restored from %s ago on",
				age(window.LastSuccessfulBackupTime), age(window.FirstRecoverabilityPoint))
			switch {
			case window.LastSuccessfulBackupTime.IsZero():
				mark, text = "✗", "nothing was copied yet"
			case window.LastFailedBackupTime.After(window.LastSuccessfulBackupTime):
				mark, text = "✗", text+"; the last copy failed "+age(window.LastFailedBackupTime)+" ago"
			}
			lines = append(lines, fmt.Sprintf("%s %-38s %s", mark, r.Metadata.Namespace+"/"+server, text))
		}
	}
	return lines
}

// dumps draws the copies of MariaDBs: those that are made once, and the jobs that make one by the clock.
func dumps(all []resource, now time.Time) []string {
	var lines []string
	for _, r := range all {
		var at time.Time
		failed := false
		switch {
		case r.Kind == "Backup" && r.Spec.Schedule == nil:
			for _, c := range r.Status.Conditions {
				if c.Type == "Complete" {
					failed = c.Message == "Failed"
					if c.Status == "True" && !failed {
						at = c.LastTransitionTime
					}
				}
			}
		case r.Kind == "CronJob" && slices.ContainsFunc(r.Metadata.OwnerReferences,
			func(owner struct{ Kind string }) bool { return owner.Kind == "Backup" }):
			at, failed = r.Status.LastSuccessfulTime, r.Status.LastScheduleTime.After(r.Status.LastSuccessfulTime)
			if r.Status.LastScheduleTime.IsZero() {
				lines = append(lines, fmt.Sprintf("✓ %-38s waits for its first hour", r.Metadata.Namespace+"/"+r.Metadata.Name))
				continue
			}
		default:
			continue
		}
		mark, text := "✓", "copied "+now.Sub(at).Round(time.Second).String()+" ago"
		if at.IsZero() {
			mark, text = "✗", "nothing was copied yet"
		}
		if failed {
			mark, text = "✗", text+"; the last copy did not end well"
		}
		lines = append(lines, fmt.Sprintf("%s %-38s %s", mark, r.Metadata.Namespace+"/"+r.Metadata.Name, text))
	}
	return lines
}

// pods counts, and names those that are not well.
func pods(all []resource, now time.Time) []string {
	var unwell []string
	total := 0
	for _, r := range all {
		if r.Status.Phase == "Succeeded" {
			continue
		}
		total++
		if ready := r.ready(); ready.Status == "True" {
			continue
		}
		why, restarts := r.Status.Phase, 0
		for _, c := range r.Status.ContainerStatuses {
			if waiting := c.State.Waiting; waiting.Reason != "" {
				why = strings.TrimSuffix(waiting.Reason+": "+waiting.Message, ": ")
			}
			restarts += c.RestartCount
		}
		if restarts > 0 {
			why += fmt.Sprintf(" (%d restarts)", restarts)
		}
		unwell = append(unwell, fmt.Sprintf("✗ %s/%s%s: %s", r.Metadata.Namespace, r.Metadata.Name, since(r.ready(), now),
			why))
	}
	return append([]string{fmt.Sprintf("%d of %d are ready", total-len(unwell), total)}, unwell...)
}

func (r resource) ready() condition {
	for _, c := range r.Status.Conditions {
		if c.Type == "Ready" {
			return c
		}
	}
	return condition{}
}

// line is a name, a version, and whether it is well.
func line(name, version string, r resource, now time.Time) string {
	text := fmt.Sprintf("%-38s %-14s", name, version)
	ready := r.ready()
	switch {
	case r.Spec.Suspend:
		return "‖ " + text + " suspended"
	case ready.Status == "True":
		return strings.TrimRight("✓ "+text, " ")
	}
	why := strings.Trim(ready.Reason+": "+ready.Message, ": ")
	if why == "" {
		why = "nothing is known yet"
	}
	return "✗ " + text + since(ready, now) + " " + why
}

func since(c condition, now time.Time) string {
	if c.LastTransitionTime.IsZero() {
		return ""
	}
	return fmt.Sprintf(" for %s", now.Sub(c.LastTransitionTime).Round(time.Second))
}
