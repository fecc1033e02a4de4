package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// documented are the documents with shell blocks, and in their order the blocks of each. TestDocumentation runs them in
// the lab; TestEveryBlockIsRunOrExcused compares them with the documents.
var documented = []document{
	{"README.md", []block{
		{
			text: `make up      # from nothing to a running site; the first run builds from source what it cannot download
make test    # all tests that need no running lab, and a preview of every stack`,
			reason: "TestInterruptedUp brings the lab up from nothing, and continuous integration runs make test before it",
		},
		{text: "The site is up: 78 create.", shows: "what make up prints"},
		{
			text: "make site NAME=acme",
			first: `export ZONE=example.com GIT=https://git.example.com/me/site.git HOST=box
export KEY='~/acme-sealing.pem'`,
			then: `test -s Pulumi.acme.yaml
test -s ~/acme-sealing.pem
test -d clusters/acme`,
			says: []string{"The site acme is in Pulumi.acme.yaml", "pulumi preview -s acme"},
		},
		{
			text: "scripts/sealing-key.sh production --out ~/production-sealing.pem",
			then: "test -s ~/lab-sealing.pem",
			says: []string{"private key: "},
		},
		{
			text:  "scripts/sealing-key.sh production --key main.key.yaml --out ~/production-sealing.pem",
			first: keyOfTheCluster,
			then:  sealedAsBefore,
			says:  []string{"private key: "},
		},
		{text: "pulumi up -s production", same: true, says: []string{"stack lab is this site:"}},
		{
			text:  "main.go  stacks/            the program: one stack per environment; read stacks/stack.go first",
			shows: "the tree",
		},
	}},
	{"docs/lab.md", []block{
		{
			text:   "go -C lab run . stand-in",
			reason: "it serves until it is interrupted; TestStandInAndPins takes the same way",
		},
		{
			text:   "make site up NAME=acme FROM=lab",
			reason: "the lab holds one site at a time, and that of these tests; TestANewSiteOfTheLab makes one",
		},
		{
			text: `curl --cacert /var/lib/tinyrack-lab/tls/ca.crt --resolve notes.lab.test:443:10.77.0.1 https://notes.lab.test/`,
			says: []string{"Memos"},
		},
		{
			text:   "TINYRACK_LAB_PLUGINS=$HOME/.pulumi/plugins make up",
			reason: "there are no official plugins in the lab, and make down would have to come before it",
		},
		{
			text: `ip netns exec tinyrack-operator ssh -i /var/lib/tinyrack-lab/machine.key root@tinyrack.tail.lab.test journalctl -u k3s`,
			says: []string{"k3s["},
		},
	}},
	{"docs/runbooks/day-2.md", []block{
		{
			text: `printf %s "$token" |
  scripts/seal.sh --out apps/production/memos/smtp.yaml production memos-system smtp password`,
			first: "token='what the token is'",
			then: `kubectl apply -f apps/lab/memos/smtp.yaml
kubectl -n memos-system wait --for=create secret/smtp --timeout=60s
kubectl -n memos-system get secret smtp -o 'jsonpath={.data.password}' | base64 -d`,
			says: []string{"what the token is"},
			undo: "kubectl -n memos-system delete sealedsecret smtp --ignore-not-found",
		},
		{
			text: `pulumi stack output webhookUrl -s production
pulumi stack output webhookSecret --show-secrets -s production`,
			says: []string{"https://flux." + layout.Zone + "/hook", "[the output webhookSecret]"},
		},
		{
			// The lab's site has been told so from its beginning: it stays as it is.
			text: `pulumi config set --path tinyrack:flux.host gitea -s production
pulumi config set --secret tinyrack:gitStatusToken -s production
pulumi up -s production`,
			stdin: "[the git token]\n",
			then: `pulumi config get --path tinyrack:flux.host -s lab
pulumi config get tinyrack:gitStatusToken -s lab`,
			same: true,
			says: []string{"\ngitea\n[the git token]\n"},
		},
		{
			text:   "kubectl -n flux-system port-forward service/flux-operator 9080:9080",
			reason: "the lab's operator has no web page: its module comes without",
		},
		{
			text:   "scripts/pin            # or scripts/pin --check, which changes nothing; or one kind: scripts/pin images",
			reason: "it asks those who publish the versions, whom the lab does not reach",
		},
		{
			text: `pulumi config set --path tinyrack:cluster.renewal 2027-Q1 -s production
pulumi up -s production`,
			says: []string{"k3s-tinyrack-kubeconfig", "updated"},
		},
		{
			text: "pulumi up -s production --replace '**TailnetKey::tailnet-key-<host>'",
			says: []string{"tailnet-key-tinyrack", "replaced"},
		},
		{
			text: `systemctl stop tinyrack-firewall-watch
nft delete table inet tinyrack`,
			console: true,
			then:    "! nft list table inet tinyrack",
			undo: `systemctl start tinyrack-firewall-watch
timeout 60 sh -c 'until nft list table inet tinyrack >/dev/null 2>&1; do sleep 1; done'`,
		},
		{
			text: `pulumi config set tinyrack:protect false -s production
pulumi up -s production          # the cluster and the tunnel may be deleted from now on
pulumi destroy -s production`,
			reason: "it takes the site down, which TestDestroyGivesEverythingBack does",
		},
		{
			text:   "PULUMI_K8S_DELETE_UNREACHABLE=true pulumi destroy -s production",
			reason: "it is for machines that are gone for good",
		},
	}},
	{"docs/runbooks/discourse.md", []block{
		{
			text:   "kubectl -n discourse-system logs --follow deploy/discourse --container prepare",
			reason: withoutDiscourse,
		},
		{
			text:   "kubectl -n discourse-system exec -it deploy/discourse -- bundle exec rake admin:create",
			reason: withoutDiscourse,
		},
		{
			text: `scripts/seal.sh --out apps/production/discourse/mail.yaml production discourse-system discourse-mail \
  DISCOURSE_SMTP_ADDRESS DISCOURSE_SMTP_PORT DISCOURSE_SMTP_USER_NAME DISCOURSE_SMTP_PASSWORD \
  DISCOURSE_NOTIFICATION_EMAIL`,
			stdin: "mail.example.com\n587\nforum\npassword\nforum@example.com\n",
			then:  "cat apps/lab/discourse/mail.yaml",
			says:  []string{"kind: SealedSecret", `"DISCOURSE_SMTP_ADDRESS": `, `"DISCOURSE_NOTIFICATION_EMAIL": `},
		},
		{text: "# No address: the mail server's is a name.", shows: "a part of a manifest"},
		{text: "kubectl -n discourse-system rollout restart deployment discourse", reason: withoutDiscourse},
		{
			text: `git clone https://github.com/discourse/discourse_docker.git && cd discourse_docker
cp samples/web_only.yml containers/web_only.yml`,
			reason: "it needs a network",
		},
		{
			text: `launcher build web_only --tag ghcr.io/tinyrack-net/discourse:2026.7.2-1
docker push ghcr.io/tinyrack-net/discourse:2026.7.2-1`,
			reason: "it needs a network, and Docker",
		},
	}},
	{"docs/runbooks/first-install.md", []block{
		{
			text: "scripts/sealing-key.sh production --out ~/production-sealing.pem",
			then: "test -s ~/lab-sealing.pem",
			says: []string{"private key: "},
		},
		{
			text: keyOfTheCluster + `
scripts/sealing-key.sh production --key main.key.yaml --out ~/production-sealing.pem`,
			then: sealedAsBefore,
			says: []string{"private key: "},
		},
		{
			// In a place of its own: the lab's has the stack already.
			text: `mkdir -p ~/tinyrack-state
pulumi login "file://$HOME/tinyrack-state?metadata=skip"   # where the state is kept; or s3://<bucket>
pulumi stack init production     # asks for a passphrase: PULUMI_CONFIG_PASSPHRASE from then on
pulumi preview -s production`,
			first: `export PULUMI_BACKEND_URL="file://$HOME/tinyrack-state?metadata=skip"`,
			says:  []string{"Logged in to ", "stack lab is this site:", " to create"},
		},
		{
			text:  `{"grants": [{"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"]}]}`,
			shows: "a policy file; TestRestThatLeavesTheHostsAlone takes it",
		},
		{
			text: `pulumi preview -s production
pulumi up -s production`,
			same: true,
			says: []string{"stack lab is this site:"},
		},
		{
			text: `mkdir -p ~/.kube
(umask 077; pulumi stack output kubeconfig --show-secrets -s production > ~/.kube/tinyrack)
export KUBECONFIG=~/.kube/tinyrack
kubectl get kustomizations -A
kubectl -n sealed-secrets get secret canary`,
			says: []string{"databases", "canary"},
		},
		{
			text: "pulumi stack output k3sToken --show-secrets -s production",
			says: []string{"[the output k3sToken]"},
		},
	}},
	{"docs/runbooks/interrupted-run.md", []block{
		{
			text: `ssh root@<host> cat /var/lib/rancher/k3s/server/token |
    pulumi config set --secret tinyrack:k3sToken -s production`,
			then: "pulumi config get tinyrack:k3sToken -s lab",
			says: []string{"[the output k3sToken]"},
		},
		{
			text: "kubectl -n cloudflared scale deployment/cloudflared --replicas=0",
			then: "kubectl -n cloudflared wait --for=delete pods -l app.kubernetes.io/name=cloudflared --timeout=120s",
			says: []string{"scaled"},
			undo: `kubectl -n flux-system annotate --overwrite kustomization infrastructure-connectors \
  "reconcile.fluxcd.io/requestedAt=$(date +%s)"
kubectl -n cloudflared wait deployment/cloudflared '--for=jsonpath={.status.readyReplicas}=2' --timeout=180s`,
		},
	}},
	{"docs/runbooks/pull-requests.md", []block{
		{
			text: "scripts/preview.sh",
			first: `scripts/apply.sh --publish lab
sed -i 's|^    ingress:$|&\n    - {access: team, hostname: wiki.lab.test, service: "http://wiki.wiki.svc:80"}|' Pulumi.lab.yaml`,
			code: 10, // something changes
			says: []string{"stack lab: ", "wiki.lab.test"},
		},
	}},
	{"docs/runbooks/restore-databases.md", []block{
		{
			// TestDestroyGivesEverythingBack is the up.
			text: `pulumi config set --path 'tinyrack:backups.incarnation' 2 -s production
pulumi config set --path 'tinyrack:restore.from' 1 -s production
pulumi config set --path 'tinyrack:restore.phase' apps -s production
pulumi up -s production`,
			previewed: true,
			says:      []string{"phase apps, from incarnation 1", " to update"},
		},
		{
			text: "pulumi config set --path 'tinyrack:restore.volumes' system-backup-c-1b2d3 -s production",
			then: "pulumi config get --path tinyrack:restore.volumes -s lab",
			says: []string{"system-backup-c-1b2d3"},
		},
		{
			// TestADeadServer writes the same, and is the up.
			text: `pulumi config set --path 'tinyrack:hosts.<host>.address' 192.0.2.10 -s production
pulumi config set --path 'tinyrack:hosts.<host>.hostKey' 'ssh-ed25519 AAAA…' -s production
pulumi config set --path 'tinyrack:hosts.<host>.bootstrapSources[0]' 192.0.2.7/32 -s production
pulumi config set --path 'tinyrack:backups.incarnation' 2 -s production
pulumi config set --path 'tinyrack:restore.from' 1 -s production
pulumi config set --path 'tinyrack:restore.phase' apps -s production`,
			then: "pulumi config get --path 'tinyrack:hosts.tinyrack' -s lab",
			says: []string{"192.0.2.10", "192.0.2.7/32", "ssh-ed25519 AAAA"},
		},
		{
			text: "PULUMI_K8S_DELETE_UNREACHABLE=true pulumi up -s production --refresh --replace " +
				"'**TailnetKey::tailnet-key-<host>'",
			reason: "it is for a server that is gone, which TestADeadServer brings back so",
		},
	}},
}

const (
	keyOfTheCluster = `(umask 077; kubectl -n sealed-secrets get secret \
  -l sealedsecrets.bitnami.com/sealed-secrets-key=active -o yaml > main.key.yaml)`
	// With the key that the cluster has, nothing in git changes.
	sealedAsBefore = `test -s ~/lab-sealing.pem
git diff --exit-code`
	withoutDiscourse = "Discourse is not in the lab"
)

// document is a document of the repository, with all its blocks.
type document struct {
	name   string
	blocks []block
}

// block is a block of code in a document.
type block struct {
	// text is the block as it stands there; of one that shows something its first line is enough.
	text string
	// shows is what a block without commands is. reason is why one with commands is not run: a test that is named in it is
	// one that does the same.
	shows, reason string

	// first is what a person has done before, then what they look at afterwards, in the same shell; undo makes the site
	// what it was, whatever happened.
	first, then, undo string
	// stdin is what the commands are given, with the names of secrets in brackets, as in says: what must be printed.
	stdin string
	says  []string
	// code is what the block ends with.
	code int
	// same says that there is nothing to do for its ups and previews.
	same bool
	// console has it run on the machine, previewed has its ups only previewed.
	console, previewed bool
}

// isRun tells whether the lab runs the block.
func (b block) isRun() bool { return b.shows == "" && b.reason == "" }

// title is the block's first line.
func (b block) title() string {
	line, _, _ := strings.Cut(b.text, "\n")
	return line
}

// script is the block as a person runs it who has the lab's site: their stack in the place of production, the name of
// their machine.
func (b block) script(l layout.Layout) string {
	m := l.Machines[0]
	text := strings.NewReplacer("root@<host>", "root@"+m.FQDN(), "<host>", m.Name, "production", layout.DefaultStack,
		"/var/lib/tinyrack-lab", l.State).Replace(b.text)
	if b.previewed {
		text = strings.ReplaceAll(text, "pulumi up", "pulumi preview")
	}
	return strings.Trim(strings.Join([]string{b.first, text, b.then}, "\n"), "\n") + "\n"
}

var (
	summaries = regexp.MustCompile(`(?m)^Resources:$`)
	nothing   = regexp.MustCompile(`(?m)^Resources:\n +[0-9]+ unchanged$`)
)

// nothingChanged tells whether an engine ran that says so, and none did anything.
func nothingChanged(printed string) bool {
	ran := len(summaries.FindAllString(printed, -1))
	return ran > 0 && ran == len(nothing.FindAllString(printed, -1))
}

func TestNothingChanged(t *testing.T) {
	const same, changed = "a\nResources:\n    78 unchanged\n\nb\n", "Resources:\n    ~ 1 to update\n    77 unchanged\n"
	for printed, want := range map[string]bool{
		same: true, same + same: true, changed: false, same + changed: false, "nothing ran\n": false,
		"Resources:\n    + 1 created\n": false, "Resources:\n    1 change. 77 unchanged\n": false,
	} {
		if nothingChanged(printed) != want {
			t.Errorf("nothing changed is %v of\n%s", !want, printed)
		}
	}
}

func TestScript(t *testing.T) {
	l := layout.Layout{State: "/state", Machines: []layout.Machine{{Name: "box"}}}
	for name, test := range map[string]struct {
		block block
		want  string
	}{
		"as it stands": {block{text: "a <b>\n  c"}, "a <b>\n  c\n"},
		"what a person fills in": {
			block{text: "a -s production ~/production.pem '**::key-<host>' /var/lib/tinyrack-lab/tls"},
			"a -s lab ~/lab.pem '**::key-box' /state/tls\n",
		},
		"a machine by its name": {block{text: "ssh root@<host> true"}, "ssh root@box." + layout.TailnetDomain + " true\n"},
		"before and after":      {block{first: "a=production", text: "b", then: "c"}, "a=production\nb\nc\n"},
		"a preview": {
			block{text: "pulumi up -s production # pulumi up", previewed: true},
			"pulumi preview -s lab # pulumi preview\n",
		},
	} {
		if got := test.block.script(l); got != test.want {
			t.Errorf("%s:\n got %q\nwant %q", name, got, test.want)
		}
	}
}

// codeBlock is one as it stands in a document.
type codeBlock struct {
	line int
	text string
}

var (
	listItem = regexp.MustCompile(`^ *(?:[-*+]|[0-9]+[.)]) +`)
	fence    = regexp.MustCompile("^ *```([a-z]*)")
)

// blocksOf are the blocks of code of a document in Markdown that may hold commands: indented by four more than the text
// around, or fenced, of the language sh or of none.
func blocksOf(markdown string) []codeBlock {
	var (
		all     []codeBlock
		code    []string
		start   int
		margin  int // of the text in the list's item
		blank   = true
		fenced  bool
		foreign bool // fenced, in another language
	)
	end := func() {
		text := strings.TrimRight(strings.Join(code, "\n"), "\n ")
		if text != "" && !foreign {
			all = append(all, codeBlock{start, text})
		}
		code, fenced, foreign = nil, false, false
	}
	lines := bufio.NewScanner(strings.NewReader(markdown))
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		indent := len(line) - len(strings.TrimLeft(line, " "))
		opening := fence.FindStringSubmatch(line)
		switch {
		case fenced && opening != nil:
			end()
		case fenced:
			code = append(code, line[min(indent, margin):])
		case strings.TrimSpace(line) == "":
			blank = true
			if code != nil {
				code = append(code, "")
			}
			continue
		case indent >= margin+4 && (code != nil || blank):
			if code == nil {
				start = number
			}
			code = append(code, line[margin+4:])
		default:
			end()
			if opening != nil {
				start, fenced, foreign = number+1, true, opening[1] != "" && opening[1] != "sh"
			}
			if item := listItem.FindString(line); item != "" {
				margin = len(item)
			} else if indent < margin && blank {
				margin = indent
			}
		}
		blank = false
	}
	end()
	return all
}

func TestBlocksOf(t *testing.T) {
	for name, test := range map[string]struct {
		markdown string
		want     []codeBlock
	}{
		"none":               {"text\n\n1. item\n   more\n", nil},
		"indented":           {"text\n\n    a \\\n      b\n\n    c\n\n\ntext\n", []codeBlock{{3, "a \\\n  b\n\nc"}}},
		"at the end":         {"text\n\n    a", []codeBlock{{3, "a"}}},
		"two":                {"\n    a\n\ntext\n\n    b\n", []codeBlock{{2, "a"}, {6, "b"}}},
		"a text's next line": {"text\n    goes on\n", nil},
		"in an item":         {"1. item\n\n       a\n\n   text\n\n       b\n", []codeBlock{{3, "a"}, {7, "b"}}},
		"in a short item":    {"- item\n  more\n\n      a\n\n      b\n", []codeBlock{{4, "a\n\nb"}}},
		"text of an item":    {"10. item\n\n    text\n\n        a\n", []codeBlock{{5, "a"}}},
		"after a list":       {"- item\n\ntext\n\n    a\n", []codeBlock{{5, "a"}}},
		"fenced":             {"text\n```sh\na\n\n  b\n```\n    text\n", []codeBlock{{3, "a\n\n  b"}}},
		"fenced in an item":  {"2. item:\n\n   ```sh\n   a\n     b\n   ```\n\n   text\n", []codeBlock{{4, "a\n  b"}}},
		"of no language":     {"```\na\n```\n", []codeBlock{{2, "a"}}},
		"of another":         {"```mermaid\nflowchart\n    a\n```\n\n    b\n", []codeBlock{{6, "b"}}},
	} {
		if got := blocksOf(test.markdown); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// compare says how a document's blocks differ from those that are in the table.
func compare(d document, blocks []codeBlock) []string {
	var problems []string
	rest := slices.Clone(d.blocks)
	last := -1
	for _, f := range blocks {
		i := slices.IndexFunc(rest, func(b block) bool {
			if b.shows != "" {
				return b.text == block{text: f.text}.title()
			}
			return b.text == f.text
		})
		if i < 0 {
			problems = append(problems, fmt.Sprintf("%s:%d: this block is run by nobody: give it its place in `documented`, with "+
				"what is seen of it, or with the reason why it is not run:\n%s", d.name, f.line, f.text))
			continue
		}
		if i < last {
			problems = append(problems, fmt.Sprintf("%s:%d: this block stands elsewhere in `documented`, which has the "+
				"document's order: move it:\n%s", d.name, f.line, f.text))
		}
		last = i
		rest[i] = block{text: "\x00"} // no second time
	}
	for _, b := range rest {
		if b.text != "\x00" {
			problems = append(problems, fmt.Sprintf("%s has no such block: what runs is not what it says: correct or remove "+
				"it in `documented`:\n%s", d.name, b.text))
		}
	}
	return problems
}

func TestCompare(t *testing.T) {
	d := document{"d.md", []block{{text: "a\nb"}, {text: "shown", shows: "a tree"}, {text: "c"}}}
	whole := []codeBlock{{1, "a\nb"}, {4, "shown\nmore"}, {9, "c"}}
	const isNot, moved, gone = ": this block is run by nobody", ": this block stands elsewhere", "d.md has no such block"
	for name, test := range map[string]struct {
		blocks []codeBlock
		want   []string
	}{
		"the same":         {whole, nil},
		"one changed":      {[]codeBlock{whole[0], whole[1], {9, "c # now"}}, []string{"d.md:9" + isNot, gone}},
		"one twice":        {append(slices.Clone(whole), codeBlock{11, "a\nb"}), []string{"d.md:11" + isNot}},
		"one less":         {whole[:2], []string{gone}},
		"another order":    {[]codeBlock{whole[0], whole[2], whole[1]}, []string{"d.md:4" + moved}},
		"only its opening": {[]codeBlock{{1, "a"}, whole[1], whole[2]}, []string{"d.md:1" + isNot, gone}},
	} {
		got := compare(d, test.blocks)
		ok := len(got) == len(test.want)
		for i := range min(len(got), len(test.want)) {
			ok = ok && strings.HasPrefix(got[i], test.want[i])
		}
		if !ok {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func readDocument(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEveryBlockIsRunOrExcused(t *testing.T) {
	runbooks, err := filepath.Glob("../docs/runbooks/*.md")
	if err != nil || len(runbooks) < 6 {
		t.Fatalf("only %d runbooks: %v", len(runbooks), err)
	}
	names := []string{"README.md", "docs/lab.md"}
	for _, path := range runbooks {
		names = append(names, strings.TrimPrefix(path, "../"))
	}
	known := map[string]document{}
	for _, d := range documented {
		if known[d.name] = d; !slices.Contains(names, d.name) {
			t.Errorf("%s: is no document whose blocks are run: take it out of `documented`", d.name)
		}
	}
	for _, name := range names {
		for _, problem := range compare(document{name, known[name].blocks}, blocksOf(readDocument(t, name))) {
			t.Error(problem)
		}
	}
}

var testName = regexp.MustCompile(`\bTest[A-Z]\w*`)

// TestWhatIsSeenOfBlocks: of one that runs something is looked at, of another nothing is; and the tests are there that
// reasons name.
func TestWhatIsSeenOfBlocks(t *testing.T) {
	tests := testsOfTheRepository(t)
	for _, d := range documented {
		for _, b := range d.blocks {
			seen := len(b.says) > 0 || b.then != ""
			does := b.first+b.stdin+b.undo != "" || b.console || b.previewed || b.same || b.code != 0
			switch {
			case b.shows != "" && b.reason != "":
				t.Errorf("%s: %q shows something, and has a reason not to run", d.name, b.title())
			case b.isRun() && !seen:
				t.Errorf("%s: nothing is seen of %q but its end: give it `says` or `then`", d.name, b.title())
			case !b.isRun() && (seen || does):
				t.Errorf("%s: %q is not run: what else its entry says is never read", d.name, b.title())
			}
			for _, name := range testName.FindAllString(b.reason, -1) {
				if !tests[name] {
					t.Errorf("%s: %q is not run because of %s, which is no test: name the one that does the same, or run the block",
						d.name, b.title(), name)
				}
			}
		}
	}
}

// testsOfTheRepository are the names of all tests, of every module and behind every tag.
func testsOfTheRepository(t *testing.T) map[string]bool {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	names := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range function.FindAllStringSubmatch(string(text), -1) {
			names[match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestTheOtherLanguage: the README in Korean has the commands of the one in English; comments are translated.
func TestTheOtherLanguage(t *testing.T) {
	comment := regexp.MustCompile(`(?m) +#.*$`)
	english, korean := documented[0].blocks, blocksOf(readDocument(t, "README.ko.md"))
	if len(english) != len(korean) {
		t.Fatalf("README.ko.md has %d blocks, not %d: change both", len(korean), len(english))
	}
	for i, b := range english {
		want, got := comment.ReplaceAllString(b.text, ""), comment.ReplaceAllString(korean[i].text, "")
		if b.shows == "" && got != want {
			t.Errorf("README.ko.md:%d: is not what README.md has: change both:\n got %s\nwant %s", korean[i].line, got, want)
		}
	}
}
