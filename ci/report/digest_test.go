package report

import (
	"regexp"
	"slices"
	"testing"
)

func TestDigestIsOfWhatTheChangeDoes(t *testing.T) {
	want := full().Digest()
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(want) {
		t.Errorf("got %q", want)
	}
	for name, change := range map[string]func(*Report){
		"commits":      func(r *Report) { r.Base, r.Head = "a", "b" },
		"state":        func(r *Report) { r.Stacks[0].State, r.Stacks[0].Behind = "another", "" },
		"site":         func(r *Report) { r.Stacks[0].Site = "" },
		"same":         func(r *Report) { r.Stacks[0].Same++ },
		"order":        func(r *Report) { slices.Reverse(r.Stacks); slices.Reverse(r.Trees) },
		"order inside": func(r *Report) { slices.Reverse(r.Stacks[0].Changes); slices.Reverse(r.Trees[0].Objects) },
		"properties":   func(r *Report) { slices.Reverse(r.Stacks[0].Changes[1].Properties) },
		"JSON": func(r *Report) {
			r.Stacks[0].Changes[1].Properties[3].Before = " [1, 2]"
		},
	} {
		r := full()
		change(&r)
		if r.Digest() != want {
			t.Errorf("%s: the digest changes", name)
		}
	}
	seen := map[string]string{want: "nothing"}
	for name, change := range map[string]func(*Report){
		"operation":    func(r *Report) { r.Stacks[0].Changes[0].Op = Delete },
		"urn":          func(r *Report) { r.Stacks[0].Changes[0].URN = "urn:9" },
		"path":         func(r *Report) { r.Stacks[0].Changes[1].Properties[1].Path = "b" },
		"before":       func(r *Report) { r.Stacks[0].Changes[1].Properties[1].Before = `"23"` },
		"after":        func(r *Report) { r.Stacks[0].Changes[1].Properties[1].After = `"23"` },
		"secret":       func(r *Report) { r.Stacks[0].Changes[1].Properties[0].Secret = false },
		"one more":     func(r *Report) { r.Stacks[1].Changes = []Change{{Op: Create, URN: "urn:8"}} },
		"stack":        func(r *Report) { r.Stacks[0].Name = "other" },
		"failure":      func(r *Report) { r.Stacks[0].Error = "no" },
		"environment":  func(r *Report) { r.Trees[0].Environment = "other" },
		"object":       func(r *Report) { r.Trees[0].Objects[0].ID = "other" },
		"object's op":  func(r *Report) { r.Trees[0].Objects[0].Op = Delete },
		"layer":        func(r *Report) { r.Trees[0].Objects[0].Layer = "other" },
		"difference":   func(r *Report) { r.Trees[0].Objects[0].Diff = "+b" },
		"tree failure": func(r *Report) { r.Trees[0].Error = "no" },
	} {
		r := full()
		change(&r)
		if before, twice := seen[r.Digest()]; twice {
			t.Errorf("%s has the digest of %s", name, before)
		}
		seen[r.Digest()] = name
	}
	// Which error it was is not what the change does; and neighbours do not run into each other.
	one, two := Report{Stacks: []Stack{{Error: "at 10:00"}}}, Report{Stacks: []Stack{{Error: "at 10:01"}}}
	if one.Digest() != two.Digest() {
		t.Error("the text of an error changes the digest")
	}
	ab := Report{Trees: []Tree{{Objects: []Object{{Layer: "ab"}}}}}
	a := Report{Trees: []Tree{{Objects: []Object{{Layer: "a", ID: "b"}}}}}
	if ab.Digest() == a.Digest() {
		t.Error("fields run together")
	}
	// Numbers too large for a float stay what they are.
	p := func(value string) Report {
		return Report{Stacks: []Stack{{Changes: []Change{{Properties: []Property{{After: value}}}}}}}
	}
	if p("9007199254740993").Digest() == p("9007199254740992").Digest() ||
		p(`{"a":1,"b":2}`).Digest() != p(`{"b":2,"a":1}`).Digest() || p(`1 2`).Digest() == p(`1`).Digest() {
		t.Error("JSON is not compared as what it says")
	}
}

func TestDigestOf(t *testing.T) {
	line := "<!-- digest: " + otherDigest + " -->"
	mine := "<!-- digest: " + full().Digest() + " -->"
	for body, want := range map[string]string{
		"":                         "",
		"text":                     "",
		line:                       otherDigest,
		"a\n" + line + "\n":        otherDigest,
		"a\r\n" + line + "\r\n":    otherDigest,
		mine + "\n" + line:         otherDigest,
		line + "\n" + mine:         full().Digest(),
		"a " + line:                "",
		line + " b":                "",
		"<!-- digest: 0123 -->":    "",
		"> " + line + "\n" + mine:  full().Digest(),
		mine + "\n```\n " + line:   full().Digest(),
		"<!-- digest: ABCDEF -->b": "",
	} {
		if got, found := DigestOf(body); got != want || found != (want != "") {
			t.Errorf("%q: %q, %v", body, got, found)
		}
	}
}
