package report

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
)

// canary has what each of the encodings changes.
const canary = `k/7+"q&<é> =%\z`

// pem is made up.
const pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIBcanaryCanaryCanaryCanaryCanaryCanaryCanaryC1\n" +
	"bmV2ZXIgdXNlZCBmb3IgYW55dGhpbmc=\n-----END PRIVATE KEY-----\n"

func TestLeaks(t *testing.T) {
	marshalled := func(value any) string {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	escaped := marshalled(canary)
	ascii := strings.ReplaceAll(escaped, "é", `\u00e9`)
	wrapped := base64.StdEncoding.EncodeToString([]byte("before " + canary + " after"))
	leaks := map[string]string{
		"clear":              "a" + canary + "b",
		"hex":                hex.EncodeToString([]byte("a" + canary)),
		"HEX":                strings.ToUpper(hex.EncodeToString([]byte("a" + canary))),
		"query":              url.QueryEscape(canary),
		"path":               url.PathEscape(canary),
		"query, small":       strings.ToLower(url.QueryEscape(canary)),
		"JSON":               escaped,
		"JSON, ASCII":        ascii,
		"JSON, slashes":      strings.ReplaceAll(escaped, "/", `\/`),
		"JSON in JSON":       marshalled(map[string]string{"a": escaped}),
		"HTML":               html.EscapeString(canary),
		"HTML, numbers":      strings.ReplaceAll(html.EscapeString(canary), "/", "&#x2f;"),
		"HTML of JSON":       html.EscapeString(escaped),
		"base64, wrapped":    wrapped[:14] + "\n    " + wrapped[14:30] + "\r\n" + wrapped[30:],
		"base64 in a string": marshalled(wrapped[:14] + "\n" + wrapped[14:]),
		"our own code":       code(canary),
	}
	for before := range 4 {
		for after := range 4 {
			text := []byte("xyzw"[:before] + canary + "xyzw"[:after])
			for name, encoding := range map[string]*base64.Encoding{
				"std": base64.StdEncoding, "url": base64.URLEncoding,
				"raw": base64.RawStdEncoding, "raw url": base64.RawURLEncoding,
			} {
				leaks[fmt.Sprintf("base64 %s %d %d", name, before, after)] = "a: " + encoding.EncodeToString(text)
			}
		}
	}
	for name, text := range leaks {
		if !Leaks(text, []string{"not in it", canary}) {
			t.Errorf("%s is not found: %s", name, text)
		}
		if Leaks(text, []string{canary + "2", "3" + canary}) {
			t.Errorf("%s: what is not there is found in %s", name, text)
		}
	}
}

func TestLeaksOfSeveralLines(t *testing.T) {
	lines := strings.Split(pem, "\n")
	for name, text := range map[string]string{
		"whole":          pem,
		"a line":         "key: " + lines[1],
		"the last line":  "    " + lines[2],
		"carriage":       strings.ReplaceAll(pem, "\n", "\r\n"),
		"indented":       "    " + strings.ReplaceAll(pem, "\n", "\n    "),
		"JSON":           strings.ReplaceAll(pem, "\n", `\n`),
		"base64":         base64.StdEncoding.EncodeToString([]byte("x" + pem)),
		"without an end": strings.TrimSpace(pem),
		"base64 of line": base64.StdEncoding.EncodeToString([]byte("xx" + lines[2])),
	} {
		if !Leaks(text, []string{pem}) {
			t.Errorf("%s is not found", name)
		}
	}
	if Leaks(lines[0]+"\nanother\n"+lines[3], []string{pem}) {
		t.Error("the frame of any key is taken for this one")
	}
	if Leaks("a: fifteen letters", []string{"fifteen letters\nsomething else entirely"}) {
		t.Error("a short line is taken for the secret")
	}
}

func TestNoLeak(t *testing.T) {
	for name, test := range map[string]struct {
		text   string
		secret string
	}{
		"short":     {"abcde", "abcde"},
		"blank":     {"        ", "        "},
		"padded":    {"  abcde  ", "  abcde  "},
		"empty":     {"anything", ""},
		"other":     {"abcdef", "abcdeg"},
		"per cents": {"100% of %zz %4", "secret"},
		"backslash": {`\u12 \ud800 \q`, "secret"},
	} {
		if Leaks(test.text, []string{test.secret}) {
			t.Errorf("%s: found", name)
		}
	}
	if !Leaks("xabcdefx", []string{"abcdef\n"}) {
		t.Error("six characters are not looked for")
	}
	if Leaks("anything", nil) {
		t.Error("nothing is found")
	}
}

func TestFilter(t *testing.T) {
	var out strings.Builder
	f := &Filter{Out: &out, Secrets: []string{"s3cret-text"}}
	for _, part := range []string{"one\ntwo s3cr", "et-text\n", "\nthree", " s3cret-", "text"} {
		if n, err := f.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := out.String(); got != "one\n(a line with a secret in it)\n\n" {
		t.Errorf("passed is %q", got)
	}
	out.Reset()
	if err := f.Close(); err != nil || out.String() != "(a line with a secret in it)\n" {
		t.Errorf("the end is %q, %v", out.String(), err)
	}
	// A line without an end is not kept.
	out.Reset()
	for range 3 {
		if _, err := f.Write(bytes.Repeat([]byte("x"), longestLine)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Write([]byte("x\nafter it\n")); err != nil || out.String() != "(the end of a long line)\nafter it\n" {
		t.Errorf("of a long line it passes on %q, %v", out.String()[:min(100, out.Len())], err)
	}
	out.Reset()
	if err := f.Close(); err != nil || out.Len() > 0 {
		t.Errorf("closed again it passes on %q, %v", out.String(), err)
	}
}

// Digits alone stand in checksums and sizes by chance.
func TestLeaksOfNumbers(t *testing.T) {
	for text, want := range map[string]bool{
		"it is 482113.": true, `{"a":482113,"b":1}`: true, "482113": true, "-482113": true, "4821134 482113": true,
		"sha256:a482113f": false, "1482113": false, "4821130": false, "482113482113": false, "é482113": false,
		hex.EncodeToString([]byte("482113")): true,
	} {
		if Leaks(text, []string{"482113"}) != want {
			t.Errorf("%s: found: %v", text, !want)
		}
	}
	if !Leaks("a482113482113f", []string{"482113482113"}) {
		t.Error("a long one is not found beside a letter")
	}
}
