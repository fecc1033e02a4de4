package stacks

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Report is everything that keeps a stack from being deployed. It never holds a
// secret.
type Report struct {
	Stack string
	// Problems are wrong settings: key: what is wrong: consequence: fix.
	Problems []string
	// Facts and Secrets are the commands that set what is missing.
	Facts   []string
	Secrets []string

	// unread are the settings that could not be understood: nothing more is said
	// about what they hold.
	unread []string
	// missing are the settings among Facts.
	missing []string
}

// Error lists all of it.
func (r *Report) Error() string {
	var out strings.Builder
	count := len(r.Problems) + len(r.Facts) + len(r.Secrets)
	noun := "problems"
	if count == 1 {
		noun = "problem"
	}
	fmt.Fprintf(&out, "stack %q: %d %s in its settings, nothing was changed\n", r.Stack, count, noun)
	section := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(&out, "\n%s:\n", title)
		for _, line := range lines {
			fmt.Fprintf(&out, "  %s\n", line)
		}
	}
	section("wrong", r.Problems)
	section("missing, set with", r.Facts)
	section("missing secrets, set with", r.Secrets)
	return out.String()
}

func (r *Report) empty() bool {
	return len(r.Problems)+len(r.Facts)+len(r.Secrets) == 0
}

// refuse adds a problem. bad shows the value only when it cannot be a secret.
func (r *Report) refuse(key, bad, consequence, fix string) {
	if r.isUnread(key) {
		return
	}
	r.Problems = append(r.Problems, key+": "+bad+": "+consequence+": "+fix)
}

// missingFact adds the command that sets a plain value.
func (r *Report) missingFact(path, hint string) {
	if r.isUnread(project + ":" + path) {
		return
	}
	r.missing = append(r.missing, project+":"+strings.TrimSuffix(path, "[0]"))
	plain := ""
	if looksSecret.MatchString(path) {
		plain = " --plaintext"
	}
	r.Facts = append(r.Facts, fmt.Sprintf("pulumi config set --path%s '%s:%s' '%s' --stack %s", plain, project, path, hint,
		r.Stack))
}

// looksSecret are names under which Pulumi refuses a text that it would take for a secret, unless it is told:
// keyPattern in pkg/cmd/pulumi/config of v3.259.0.
var looksSecret = regexp.MustCompile(`(?i)passwd|pass|password|pwd|secret|token`)

// isUnread reports whether key, or a group it is in, could not be understood.
func (r *Report) isUnread(key string) bool {
	return slices.ContainsFunc(r.unread, func(group string) bool {
		rest, inside := strings.CutPrefix(key, group)
		return inside && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// missingSecret adds the command that sets a secret. A key is read from a file:
// typed after the command it would stay in the shell's history.
func (r *Report) missingSecret(name, file string) {
	line := setSecret(name, r.Stack)
	if file != "" {
		line += " <" + file
	}
	r.Secrets = append(r.Secrets, line)
}

func setSecret(name, stack string) string {
	return fmt.Sprintf("pulumi config set --secret %s:%s --stack %s", project, name, stack)
}
