package stacks

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fakePulumi takes `config set` as the real one does (pkg/cmd/pulumi/config of v3.259.0), and notes what it was given: a
// line for each word, and standard input.
const fakePulumi = `#!/bin/sh
set -eu
printf '%s\n' "$@" >"$NOTES/words"
[ "$1 $2" = 'config set' ] || exit 9
shift 2
secret='' plain='' path='' key='' value=''
while [ $# -gt 0 ]; do
	case $1 in
	--secret) secret=1 ;;
	--plaintext) plain=1 ;;
	--path) path=1 ;;
	--stack) shift ;;
	-*) exit 8 ;;
	*) if [ -z "$key" ]; then key=$1; elif [ -z "$value" ]; then value=$1; else exit 7; fi ;;
	esac
	shift
done
[ -z "$secret" ] || [ -z "$plain" ] || exit 6
[ -n "$value" ] || cat >"$NOTES/stdin"
case $key in
*.*) [ -n "$path" ] || exit 5 ;;
esac
[ -z "$secret$plain" ] || exit 0
! printf %s "${key#*:}" | grep -Eqi 'passw|pwd|secret|token' || { echo 'looks like a secret' >&2; exit 4; }
`

// pasted is what a printed command gives to Pulumi.
type pasted struct {
	flags             []string
	key, value, stack string
	stdin             string
}

// paste runs a printed command as it stands, with text on standard input unless the command says what comes there.
func paste(t *testing.T, home, command, text string) pasted {
	t.Helper()
	notes := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Env = []string{"PATH=" + home + "/bin:" + os.Getenv("PATH"), "HOME=" + home, "NOTES=" + notes}
	cmd.Dir = t.TempDir()
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	words, err := os.ReadFile(filepath.Join(notes, "words"))
	if err != nil {
		t.Fatal(err)
	}
	stdin, _ := os.ReadFile(filepath.Join(notes, "stdin"))
	p := pasted{stdin: string(stdin)}
	given := strings.Split(strings.TrimSuffix(string(words), "\n"), "\n")[2:]
	for i := 0; i < len(given); i++ {
		switch word := given[i]; {
		case word == "--stack":
			i++
			p.stack = given[i]
		case strings.HasPrefix(word, "--"):
			p.flags = append(p.flags, word)
		case p.key == "":
			p.key = word
		default:
			p.value = word
		}
	}
	return p
}

// secretsOfFixtures are what the fixtures call the secrets.
var secretsOfFixtures = map[string]string{
	"cloudflareApiToken": "cloudflare-token", "tailscaleOauthClientId": "tailscale-id",
	"tailscaleOauthClientSecret": "tailscale-secret", "machinePrivateKey": "ssh-key", "sealingKey": "sealing-key",
	"gitToken": "git-token", "gitSshKey": "ssh-key", "s3AccessKey": "s3-access", "s3SecretKey": "s3-secret",
	"backupsAccessKey": "backups-access", "backupsSecretKey": "backups-secret",
}

var chosen = regexp.MustCompile(`^(hosts|cluster\.binaries)\.[^.]+\.`)

// TestCommandsWorkAsPrinted runs each command of a report in a shell, and sets what it sets: with an example in the
// place of a placeholder that is all a stack needs. There is no second round.
func TestCommandsWorkAsPrinted(t *testing.T) {
	all := map[string]setting{}
	for _, s := range settings(t) {
		all[s.key] = s
	}
	files := map[string]stackFile{
		"acme":       {},
		"Acme.2":     {}, // no folder's and no machine's name
		"lab":        readStackFile(t, "../Pulumi.lab.yaml"),
		"production": readStackFile(t, "../Pulumi.production.yaml"),
		"over-ssh":   readStackFile(t, "testdata/valid/github-over-ssh.yaml"),
		"groups":     readStackFile(t, "testdata/invalid/groups-of-nothing.yaml"),
	}
	delete(files["over-ssh"].Config, project+":gitSshKey")
	delete(files["over-ssh"].Config, project+":gitToken")
	for stack, f := range files {
		t.Run(stack, func(t *testing.T) {
			home := t.TempDir()
			must(os.MkdirAll(filepath.Join(home, "bin"), 0o700))
			must(os.MkdirAll(filepath.Join(home, ".ssh"), 0o700))
			must(os.WriteFile(filepath.Join(home, "bin/pulumi"), []byte(fakePulumi), 0o700))
			for _, file := range []string{".ssh/id_ed25519", stack + "-sealing.pem", stack + "-deploy-key"} {
				must(os.WriteFile(filepath.Join(home, file), []byte("of a file"), 0o600))
			}
			root := newRoot(t, stack, "production")
			f := stackFile{}.over(f)
			_, err := Load(f.source(stack, root))
			var report *Report
			if !errors.As(err, &report) || len(report.Problems) > 0 || len(report.Secrets) == 0 {
				t.Fatalf("got %v", err)
			}
			for _, command := range report.Facts {
				p := paste(t, home, command, "")
				key := strings.TrimPrefix(p.key, project+":")
				generic := strings.TrimSuffix(chosen.ReplaceAllStringFunc(key, func(head string) string {
					group, _ := strings.CutSuffix(head, ".")
					group = group[:strings.LastIndex(group, ".")]
					return group + map[string]string{"hosts": ".<name>.", "cluster.binaries": ".<architecture>."}[group]
				}), "[0]")
				s, known := all[generic]
				if !known || s.kind == "secret" || p.stack != stack || p.value == "" || p.stdin != "" ||
					!slices.Contains(p.flags, "--path") || slices.Contains(p.flags, "--secret") ||
					strings.HasSuffix(key, "[0]") != (s.kind == "list of texts") {
					t.Errorf("%s: %+v (%s)", command, p, s.kind)
					continue
				}
				value := p.value
				if strings.HasPrefix(value, "<") {
					// As it stands it is refused, once.
					f := stackFile{}.over(f)
					f.put(key, value)
					if _, err := Load(f.source(stack, root)); err == nil ||
						!strings.Contains(err.Error(), p.key+": still the placeholder") {
						t.Errorf("%s: the placeholder is taken: %v", command, err)
					}
					value = s.example
					if s.kind == "list of texts" {
						value = strings.Trim(value, "[]")
					}
				}
				f.put(key, parsed(value))
			}
			for _, command := range report.Secrets {
				p := paste(t, home, command, "typed")
				key := strings.TrimPrefix(p.key, project+":")
				if all[key].kind != "secret" || p.stack != stack || p.value != "" ||
					!slices.Equal(p.flags, []string{"--secret"}) || (p.stdin != "typed") != slices.Contains(keyFiles, key) {
					t.Errorf("%s: %+v", command, p)
				}
				f.Config[p.key] = map[string]any{"secure": secretsOfFixtures[key]}
			}
			if _, err := Load(f.source(stack, root)); err != nil {
				t.Errorf("after all commands: %v", err)
			}
		})
	}
}
