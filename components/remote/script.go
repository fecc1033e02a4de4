package remote

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Library is the text of the shell functions that Render puts in front of every script.
//
//go:embed lib.sh
var Library string

// Cluster is the text of the shell functions that look at an existing k3s and refuse to change its networks. A body
// that calls them puts it in front of itself.
//
//go:embed cluster.sh
var Cluster string

// Text is a script and the header it runs with. The zero value stands for no script.
type Text struct {
	Vars []Var
	Body string
}

// Var is one line of a script's header. Value is not secret.
type Var struct {
	Name  string
	Value string
}

var variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// reserved are names whose meaning belongs to the shell or to the test harness.
var reserved = map[string]bool{
	"PATH": true, "IFS": true, "HOME": true, "ENV": true, "SHELL": true, "ROOT": true,
	"LC_ALL": true, "DEBIAN_FRONTEND": true,
}

// Render returns the text of a script: the header made of vars in their order, Library, then body. All problems with
// the arguments are reported together.
func Render(vars []Var, body string) (string, error) {
	var problems []error
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
	text.WriteString(Library)
	text.WriteString(body)
	return text.String(), errors.Join(problems...)
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
		return fmt.Errorf("script variable %s: value has control characters or is not UTF-8: the remote shell would "+
			"garble it", v.Name)
	}
	return nil
}

// isControl reports the characters no value may have. Newline and tab are fine inside single quotes.
func isControl(r rune) bool {
	return r < 0x20 && r != '\n' && r != '\t' || r == 0x7f
}
