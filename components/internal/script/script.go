// Package script turns the shell scripts that live beside a component into the
// text of remote commands.
//
// A script is a plain .sh file without any template in it. What varies is put in
// front of it as a header of validated, quoted KEY='value' lines, followed by the
// few functions every script shares (lib.sh). Secrets never belong in the header:
// the command's text is stored, printed on failure and seen in the process list.
// They go through the command's standard input.
package script

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Library is the text of the shell functions that Render puts in front of every
// script.
//
//go:embed lib.sh
var Library string

// Cluster is the text of the shell functions that refuse to change the networks
// of an existing k3s cluster. A body that calls them puts it in front of itself.
//
//go:embed cluster.sh
var Cluster string

// maxText is the longest text one argument of a Linux process may have
// (MAX_ARG_STRLEN, 128 KiB), less room for quoting and the shell's own words.
const maxText = 120 << 10

var (
	variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	userName     = regexp.MustCompile(`^[a-z_][a-z0-9_.-]{0,31}$`)
)

// reserved are names whose meaning belongs to the shell or to the test harness.
var reserved = map[string]bool{
	"PATH": true, "IFS": true, "HOME": true, "ENV": true, "SHELL": true, "ROOT": true,
	"LC_ALL": true, "DEBIAN_FRONTEND": true,
}

// Var is one line of a script's header. Value is not secret.
type Var struct {
	Name  string
	Value string
}

// Render returns the text to run as user on a remote host: the header made of
// vars in their order, Library, then body. For a user other than root the whole
// text runs through one non-interactive sudo, which keeps standard input.
//
// All problems with the arguments are reported together.
func Render(user string, vars []Var, body string) (string, error) {
	var problems []error
	if !userName.MatchString(user) {
		problems = append(problems, fmt.Errorf("user %q: not a login name: nothing can be run over SSH: set it to root or to a user with passwordless sudo", user))
	}
	seen := map[string]bool{}
	var text strings.Builder
	for _, v := range vars {
		if err := v.validate(seen); err != nil {
			problems = append(problems, err)
			continue
		}
		seen[v.Name] = true
		fmt.Fprintf(&text, "%s=%s\n", v.Name, Quote(v.Value))
	}
	if strings.TrimSpace(body) == "" {
		problems = append(problems, errors.New("script body: empty: the command would do nothing and report success"))
	}
	text.WriteString(Library)
	text.WriteString(body)

	out := text.String()
	if user != "root" {
		// sudo would drop SSH_CONNECTION; the firewall script asks where this very
		// session comes from before it shuts a door.
		refusal := fmt.Sprintf("error: user %s has no passwordless sudo: nothing was changed: allow it (%s ALL=(ALL) NOPASSWD: ALL) or log in as root", user, user)
		out = "sudo -n true 2>/dev/null || { echo " + Quote(refusal) + " >&2; exit 1; }\n" +
			"exec sudo -n env SSH_CONNECTION=\"$SSH_CONNECTION\" sh -c " + Quote(out)
	}
	if len(out) > maxText {
		problems = append(problems, fmt.Errorf("script text: %d bytes: a remote shell takes at most %d: pass the bulk on standard input", len(out), maxText))
	}
	if err := errors.Join(problems...); err != nil {
		return "", err
	}
	return out, nil
}

// Quote returns value as one word of POSIX shell.
func Quote(value string) string {
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

func (v Var) validate(seen map[string]bool) error {
	switch {
	case !variableName.MatchString(v.Name):
		return fmt.Errorf("script variable %q: not an upper-case shell name: the header would not parse", v.Name)
	case reserved[v.Name] || strings.HasSuffix(v.Name, "_SOURCE_ONLY"):
		return fmt.Errorf("script variable %s: reserved: setting it would change what the script's own commands mean", v.Name)
	case seen[v.Name]:
		return fmt.Errorf("script variable %s: given twice: the first value would be lost", v.Name)
	case !utf8.ValidString(v.Value) || strings.ContainsFunc(v.Value, isControl):
		return fmt.Errorf("script variable %s: value has control characters or is not UTF-8: the remote shell would garble it", v.Name)
	}
	return nil
}

// isControl reports the characters no value may have. Newline and tab are fine
// inside single quotes.
func isControl(r rune) bool {
	return r < 0x20 && r != '\n' && r != '\t' || r == 0x7f
}
