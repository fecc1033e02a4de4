package remote

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

//go:embed hold.sh
var holdScript string

//go:embed release.sh
var releaseScript string

// upload is what goes to the host on standard input: the text of the create script, that of the delete script, then the
// script's own standard input. The provider gives the same to both commands; each takes its part.
type upload struct {
	user           string
	create, delete string
}

// Which of the two scripts a command runs.
const (
	create = iota
	remove
)

func (h *Host) upload(c *Command) (*upload, error) {
	u := &upload{user: h.User}
	take := "claim\n"
	if c.ReadOnly {
		take = ""
	}
	text, err := Render(slices.Concat(h.header(), c.Create.Vars), take+c.Create.Body)
	problems := []error{err}
	u.create = text
	if c.Delete.Body != "" {
		guard := "released_or_nothing\n"
		if c.OwnGuard || c.Delete.Body == releaseScript {
			guard = ""
		}
		text, err := Render(slices.Concat(h.header(), c.Delete.Vars), guard+c.Delete.Body)
		problems = append(problems, err)
		u.delete = text
	}
	if strings.TrimSpace(c.Create.Body) == "" {
		problems = append(problems, errors.New("script body: empty: the command would do nothing and report success"))
	}
	return u, errors.Join(problems...)
}

// header is what every script knows. The owner has the host's name in it: a machine that the settings call by another
// name is no longer the one that was set up.
func (h *Host) header() []Var {
	return []Var{{"OWNER", h.Owner + ", host " + h.Name}, {"HOST", h.Name}}
}

// stdin is the whole upload. It is secret when there is a secret in it; a preview shows what changes in any other.
func (u *upload) stdin(secret pulumi.StringInput) pulumi.StringPtrInput {
	text := u.create + u.delete
	if secret == nil {
		return pulumi.StringPtr(text)
	}
	return pulumi.ToSecret(secret.ToStringOutput().ApplyT(func(secret string) *string {
		whole := text + secret
		return &whole
	})).(pulumi.StringPtrOutput)
}

// receive takes $1 bytes of standard input for the script, after leaving out $2 and before leaving out $3, and runs it
// with what is left. dd reads exactly what it is told; head and read may read ahead. The file is on a tmpfs and gone
// before the script begins: nothing is left by a kill, and a full disk is no obstacle.
const receive = `umask 077; mkdir -p /run/tinyrack; f=$(mktemp /run/tinyrack/script.XXXXXX)&&` +
	`part(){ [ "$1" = 0 ]||dd bs="$1" count=1 iflag=fullblock status=none;}&&part "$2">/dev/null&&part "$1">"$f"&&` +
	`part "$3">/dev/null&&exec 3<"$f"&&rm -f "$f"&&exec sh /dev/fd/3`

// command is what the shell at the other end is told. For a user other than root it goes through one non-interactive
// sudo, which keeps standard input.
func (u *upload) command(which int) string {
	sizes := [3]int{len(u.create), 0, len(u.delete)}
	if which == remove {
		sizes = [3]int{len(u.delete), len(u.create), 0}
	}
	words := []string{"sh", "-c", receive, "tinyrack", fmt.Sprint(sizes[0]), fmt.Sprint(sizes[1]), fmt.Sprint(sizes[2])}
	if u.user == "root" {
		return quoteCommand(words...)
	}
	refusal := fmt.Sprintf("error: user %s has no passwordless sudo: nothing was changed: allow it "+
		"(%s ALL=(ALL) NOPASSWD: ALL) or log in as root", u.user, u.user)
	// sudo would drop SSH_CONNECTION; the firewall script asks where this very session comes from before it shuts a door.
	return "sudo -n true 2>/dev/null || { echo " + Quote(refusal) + " >&2; exit 1; }; " +
		"exec sudo -n env SSH_CONNECTION=\"$SSH_CONNECTION\" " + quoteCommand(words...)
}
