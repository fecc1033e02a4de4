package report

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	base     = "1111111111111111111111111111111111111111"
	head     = "2222222222222222222222222222222222222222"
	proposed = "3333333333333333333333333333333333333333"
)

// full is a report with something of everything.
func full() Report {
	return Report{
		Base: base, Head: head,
		Stacks: []Stack{
			{
				Name: "lab", State: "the state published at 1a2b3c4", Behind: "2 commits older than the base",
				Site: "hosts: one, two\nzone:  lab.example", Same: 41,
				Changes: []Change{
					{Op: Create, Type: "cloudflare:index/record:Record", Name: "edge-record-www", URN: "urn:1"},
					{Op: Update, Type: "command:remote:Command", Name: "machine-one-firewall", URN: "urn:2", Properties: []Property{
						{Path: "stdin", Secret: true},
						{Path: "environment.PORTS[0]", Before: `"22"`, After: `"2222"`},
						{Path: "environment.NEW", After: `true`},
						{Path: "environment.OLD", Before: `[1,2]`},
						{
							Path: "create", Before: `"` + strings.Repeat("same ", 100) + `before"`,
							After: `"` + strings.Repeat("same ", 100) + `after"`,
						},
					}},
					{
						Op: Replace, Type: "cloudflare:index/tunnel:Tunnel", Name: "edge-tunnel", URN: "urn:3",
						Danger:     "holds the tunnel's identity",
						Properties: []Property{{Path: "name", Before: `"a"`, After: `"b"`, Replaces: true}},
					},
					{Op: "import", Type: "random:index/randomId:RandomId", Name: "token", URN: "urn:4"},
				},
			},
			{Name: "production", State: "the real state", Same: 57},
		},
		Trees: []Tree{
			{Environment: "lab", Objects: []Object{
				{
					Op: Update, Layer: "apps", ID: "Deployment memos/memos",
					Diff: "@@ -1,2 +1,2 @@\n kind: Deployment\n-a: 1\n+a: 2\n",
				},
				{Op: Delete, Layer: "databases", ID: "Cluster forum/db", Danger: "holds a database"},
				{Op: Create, Layer: "apps", ID: "Service memos/memos", Diff: "+kind: Service\n"},
			}},
			{Environment: "production"},
		},
	}
}

func failed() Report {
	return Report{
		Base: base, Head: head,
		Stacks: []Stack{{Name: "lab", Error: "error: no such setting\n  line two"}},
		Trees:  []Tree{{Environment: "lab", Error: "apps/memos: kustomize: no such file"}},
	}
}

func TestTold(t *testing.T) {
	for name, r := range map[string]Report{
		"full":      full(),
		"failed":    failed(),
		"untouched": {Base: base, Head: head, Untouched: "only documents change: docs/a_b.md"},
		"nothing":   {Stacks: []Stack{{Name: "lab", Same: 3}}},
		"unknown": {Base: base, Head: head, Proposed: proposed, Stacks: []Stack{
			{Name: "lab", Same: 3}, {Name: "production", NotPreviewed: "no state of it is published"},
		}},
		"unknown-all": {Stacks: []Stack{{Name: "lab", NotPreviewed: "no state of it is published"}}},
	} {
		t.Run(name, func(t *testing.T) {
			body := r.Markdown(60000)
			checkBody(t, r, body, 60000)
			golden(t, name+".md", body)
			golden(t, name+".txt", r.Text())
		})
	}
}

// golden compares as internal/golden of the program does, which is another module's.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if os.Getenv("CI") != "" {
			t.Fatal("UPDATE_GOLDEN is set in CI: nothing would be compared: unset it")
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run the test once with UPDATE_GOLDEN=1", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (UPDATE_GOLDEN=1 writes it). It is:\n%s", path, got)
	}
}

func TestStatus(t *testing.T) {
	change, lost := Change{Op: Update}, Change{Op: Delete, Danger: "holds data"}
	for name, test := range map[string]struct {
		report Report
		want   Status
		word   string
	}{
		"nothing":      {Report{}, NoChange, "no change"},
		"all the same": {Report{Stacks: []Stack{{Same: 5}}, Trees: []Tree{{}}}, NoChange, "no change"},
		"a change":     {Report{Stacks: []Stack{{Changes: []Change{change}}, {}}}, Changed, "changes"},
		"an object":    {Report{Trees: []Tree{{Objects: []Object{{}}}}}, Changed, "changes"},
		"a danger": {
			Report{Stacks: []Stack{{Changes: []Change{lost}}, {Changes: []Change{change}}}}, Dangerous, "DANGEROUS",
		},
		"a danger in a tree": {Report{Trees: []Tree{{Objects: []Object{{Danger: "data"}}}}}, Dangerous, "DANGEROUS"},
		"one unknown":        {Report{Stacks: []Stack{{NotPreviewed: "why"}, {}}}, NoChange, "no change"},
		"none known":         {Report{Stacks: []Stack{{NotPreviewed: "why"}, {NotPreviewed: "why"}}}, Failed, "failed"},
		"a tree alone":       {Report{Stacks: []Stack{{NotPreviewed: "why"}}, Trees: []Tree{{}}}, Failed, "failed"},
		"a failure": {
			Report{Stacks: []Stack{{Error: "no"}, {Changes: []Change{lost}}}}, Failed, "failed",
		},
		"a failure, last": {
			Report{Stacks: []Stack{{Changes: []Change{lost}}}, Trees: []Tree{{Error: "no"}}}, Failed, "failed",
		},
	} {
		if got := test.report.Status(); got != test.want || got.String() != test.word {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	if NoChange != 0 || Failed != 1 || Changed != 10 || Dangerous != 20 {
		t.Error("a status is another number: whoever calls the command takes it for something else")
	}
}

// hostile breaks out of whatever it is put in, if it can.
const hostile = "x` `` ``` ````` @everyone #1 !2 **no change** | a | </code></summary></details> <details> <script>alert(1)" +
	"</script> --> " + Marker + " <!-- digest: " + otherDigest + " --> [a](https://evil.example) www.evil.example " +
	"&amp; \\ \x1b[31mred\x1b[0m \x1b]0;title\x07 \u202e\u200b\u0085\u2028 \xff\n/close\n```\n`````````\n~~~\n" + Marker +
	"\n<!-- digest: " + otherDigest + " -->\n</details>\n**no change**: everything stays as it is.\n" +
	"::add-mask::a\n  ::error::b\n##[error]c\r\n    "

const otherDigest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// of is a report that is made of one text.
func of(text string) Report {
	return Report{
		Base: text, Head: text, Untouched: text,
		Stacks: []Stack{
			{
				Name: text, State: text, Behind: text, Site: text, Same: 1,
				Changes: []Change{{
					Op: text, Type: text, Name: text, URN: text, Danger: text,
					Properties: []Property{
						{Path: text, Before: text, After: text + "!", Replaces: true}, {Path: text, Secret: true},
					},
				}},
			},
			{Name: text, Error: text},
		},
		Trees: []Tree{
			{Environment: text, Objects: []Object{{Op: Delete, Layer: text, ID: text, Danger: text, Diff: text}}},
			{Environment: text, Error: text},
		},
	}
}

func TestWhatIsToldBreaksOutOfNothing(t *testing.T) {
	r := of(hostile)
	body := r.Markdown(200000)
	checkBody(t, r, body, 200000)
	if strings.Contains(body, "Left out") {
		t.Error("something is left out: the test does not see it")
	}
	for _, shown := range []string{"**failed**: 2 previews of 4 could not", "alert&#40;1&#41;", "red", "<! -- tinyrack"} {
		if !strings.Contains(body, shown) {
			t.Errorf("the comment has no %q", shown)
		}
	}
	// What GitLab would act on.
	if regexp.MustCompile(`(?m)^/`).MatchString(body) {
		t.Error("a line begins with a slash")
	}
	text := r.Text()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") || strings.Contains(line, "##[") {
			t.Errorf("a runner takes this for a command: %q", line)
		}
	}
	for _, told := range []string{body, text} {
		if !utf8.ValidString(told) || regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f\x{80}-\x{9f}\x{200b}\x{202e}\x{2028}]`).MatchString(told) {
			t.Error("there are control characters")
		}
	}
	if golden(t, "hostile.md", body); strings.Count(text, "everything stays as it is") < 8 {
		t.Error("the text is not whole")
	}
}

func TestMarkdownIsCutToFit(t *testing.T) {
	r := full()
	for n := range 100 {
		r.Stacks[0].Changes = append(r.Stacks[0].Changes, Change{
			Op: Update, Type: "type", Name: strings.Repeat("n", n), URN: "urn",
			Properties: []Property{{Path: "a", Before: "1", After: strings.Repeat("2", 3*n)}},
		})
	}
	r.Trees[0].Objects[0].Diff = strings.Repeat("+line\n", 10*blockLines)
	whole := r.Markdown(1 << 20)
	checkBody(t, r, whole, 1<<20)
	if want := "**Left out**: 0 changes and 720 lines of text."; !strings.Contains(whole, want) {
		t.Errorf("the comment does not say %q", want)
	}
	for limit := leastLimit; limit < 15000; limit += 331 {
		body := r.Markdown(limit)
		checkBody(t, r, body, limit)
		if !strings.Contains(body, "**Left out**: ") || !strings.Contains(body, "holds the tunnel") && limit > 2000 {
			t.Errorf("limit %d: what is left out is not said, or it is what matters:\n%s", limit, body)
		}
		left, shown := 0, len(titles.FindAllString(body, -1))
		if _, err := fmt.Sscanf(body[strings.Index(body, "**Left out**: "):], "**Left out**: %d", &left); err != nil {
			t.Fatal(err)
		}
		if all := len(r.Stacks[0].Changes) + 3; left+shown != all {
			t.Errorf("limit %d: %d changes are said to be left out, %d of %d are shown", limit, left, shown, all)
		}
		if limit > 3000 && len(body) < limit/2 {
			t.Errorf("limit %d: the comment has %d bytes", limit, len(body))
		}
	}
	if got := r.Markdown(1); len(got) > leastLimit || got != r.Markdown(leastLimit) {
		t.Errorf("the shortest has %d bytes:\n%s", len(got), got)
	}
	text := r.Text()
	if strings.Count(text, "+line\n") != 10*blockLines || !strings.Contains(text, strings.Repeat("2", 297)) {
		t.Error("the text is cut")
	}
}

func TestManyStacksAndDangersLeaveRoomForEachOther(t *testing.T) {
	r := Report{}
	for range 200 {
		r.Stacks = append(r.Stacks, Stack{Name: "stack", Changes: []Change{{Op: Delete, Name: "name", Danger: "data"}}})
	}
	body := r.Markdown(5000)
	checkBody(t, r, body, 5000)
	for _, want := range []string{"| and ", "- and ", "<details>", "**Left out**"} {
		if !strings.Contains(body, want) {
			t.Errorf("there is no %q in\n%s", want, body)
		}
	}
}

func TestFailuresComeFirst(t *testing.T) {
	r := full()
	r.Stacks[0].Site = strings.Repeat("a line\n", 10*blockLines)
	r.Trees = append(r.Trees,
		Tree{Environment: "last", Error: "why it failed"}, Tree{Environment: "z", Error: strings.Repeat("z", 700)})
	body := r.Markdown(2000)
	checkBody(t, r, body, 2000)
	if !strings.Contains(body, "why it failed") {
		t.Errorf("the error is left out:\n%s", body)
	}
	// What is nothing but an error is counted, too.
	for _, name := range []string{"name", strings.Repeat("|", valueLength)} {
		r := Report{Stacks: []Stack{{Name: name, Error: strings.Repeat("z", 700)}}}
		for limit := leastLimit; limit < 4000; limit += 50 {
			if body := r.Markdown(limit); strings.Contains(body, "zzz") == strings.Contains(body, "**Left out**") {
				t.Fatalf("limit %d: what is left out is not said:\n%s", limit, body)
			}
		}
	}
}

func TestAValueIsCutWhereItDiffers(t *testing.T) {
	long := strings.Repeat("a", 5000)
	line := Property{Path: "p", Before: long + "b" + long, After: long + "c" + long}.line(valueLength)
	if want := "p: …" + long[:40] + "b" + long[:159] + "… (5041 characters) → …" + long[:40] + "c" + long[:159] +
		"… (5041 characters)"; line != want {
		t.Errorf("got %s", line)
	}
	if line := (Property{Path: "p", Before: "1", After: long}).line(valueLength); !strings.HasPrefix(line, "p: 1 → aaa") {
		t.Errorf("got %s", line)
	}
}

// Properties that are secret show nothing, even if whoever made the report left their values in.
func TestASecretPropertyShowsNoValue(t *testing.T) {
	r := Report{Stacks: []Stack{{Changes: []Change{{Op: Update, Properties: []Property{
		{Path: "token", Before: "canary", After: "canary", Secret: true},
	}}}}}}
	for _, told := range []string{r.Markdown(5000), r.Text()} {
		if strings.Contains(told, "canary") || !strings.Contains(told, "token: secret, changes") {
			t.Errorf("got\n%s", told)
		}
	}
}

func FuzzMarkdown(f *testing.F) {
	f.Add("", 2000)
	f.Add(hostile, 2000)
	f.Add(hostile, 60000)
	f.Add(strings.Repeat("`", 500)+"\n"+strings.Repeat("|", 500), 4096)
	f.Add(strings.Repeat("@\n", 500), 2500)
	f.Add(strings.Repeat("\U0001f600", 900), 3001)
	f.Add("<details>\n```diff\n+a\n```\n</details>", 5000)
	f.Add("<!<!----\n<<!--!--", 5000)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		limit = 2000 + max(limit, -limit, 0)%100000
		r := of(text)
		checkBody(t, r, r.Markdown(limit), limit)
	})
}

var (
	fenceLine = regexp.MustCompile("^(`{3,})([a-z]*)$")
	// tags are all that may stand outside of a fence.
	tags = regexp.MustCompile(`</?(code|summary)>|<details( open)?>|</details>|^<!-- (tinyrack: preview|(digest|plan): [0-9a-f]{64}( [0-9a-f]{32})*|` +
		`proposed: [0-9a-f]{40}) -->$`)
	// escape is the only thing that begins with an ampersand.
	escape   = regexp.MustCompile(`&#[0-9]+;`)
	titles   = regexp.MustCompile(`(?m)^(\*\*(create|update|replace|delete)\*\*|<code>import</code>) `)
	codeSpan = regexp.MustCompile(`<code>[^<]*</code>`)
)

// checkBody reads a comment as the hosts do.
func checkBody(t *testing.T, r Report, body string, limit int) {
	t.Helper()
	if len(body) > limit {
		t.Errorf("%d bytes, more than %d", len(body), limit)
	}
	if !utf8.ValidString(body) {
		t.Error("no UTF-8")
	}
	if !strings.HasPrefix(body, Marker+"\n**"+r.Status().String()+"**: ") || strings.Count(body, Marker) != 1 {
		t.Errorf("the marker is not the first line, or there are several, or no verdict follows:\n%s", body)
	}
	if digest, found := DigestOf(body); !found || digest != r.Digest() || strings.Count(body, "<!-- digest:") != 1 ||
		!strings.HasSuffix(body, "<!-- digest: "+digest+" -->") {
		t.Errorf("digest %q, found %v", digest, found)
	}
	fence, details := "", 0
	for n, line := range strings.Split(body, "\n") {
		ticks := fenceLine.FindStringSubmatch(line)
		switch {
		case fence != "":
			if ticks != nil && len(ticks[1]) >= len(fence) {
				if ticks[1] != fence || ticks[2] != "" {
					t.Errorf("line %d: %q closes %q", n, line, fence)
				}
				fence = ""
			}
			continue
		case ticks != nil:
			fence = ticks[1]
			continue
		}
		details += strings.Count(line, "<details") - strings.Count(line, "</details")
		if details < 0 || details > 1 {
			t.Errorf("line %d: %d details are open", n, details)
		}
		rest := tags.ReplaceAllString(escape.ReplaceAllString(line, ""), "")
		if strings.ContainsAny(rest, "<>&`@#~\x1b\r[]!_") {
			t.Errorf("line %d is not escaped: %q", n, line)
		}
		ours := codeSpan.ReplaceAllString(line, "")
		if strings.Contains(ours, "code>") || n > 1 && strings.Contains(ours, "**no change**") {
			t.Errorf("line %d is not ours: %q", n, line)
		}
	}
	if fence != "" || details != 0 {
		t.Errorf("fence %q and %d details are left open:\n%s", fence, details, body)
	}
}
