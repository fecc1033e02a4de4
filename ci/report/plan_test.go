package report

import (
	"strings"
	"testing"
)

// A comment holds for what it told: another operation, resource or property is another plan, another value is not.
func TestAPlanIsTold(t *testing.T) {
	s := Stack{Name: "lab", Changes: []Change{
		{Op: Update, URN: "a", Properties: []Property{{Path: "x", Before: "1", After: "2"}, {Path: "y", Secret: true}}},
		{Op: Create, URN: "b"},
	}}
	body := Report{Stacks: []Stack{{Name: "other"}, s}}.Markdown(5000)
	for name, change := range map[string]func(*Stack){
		"":         func(*Stack) {},
		"a value":  func(s *Stack) { s.Changes[0].Properties[0].After = "3" },
		"an order": func(s *Stack) { s.Changes[0], s.Changes[1] = s.Changes[1], s.Changes[0] },
		// What is left after an apply that was cut off.
		"one less":     func(s *Stack) { s.Changes = s.Changes[:1] },
		"another less": func(s *Stack) { s.Changes = s.Changes[1:] },
	} {
		if changed := s.with(change); !changed.Told(body) {
			t.Errorf("%s more, and it is not what was told", name)
		}
	}
	for name, change := range map[string]func(*Stack){
		"another stack":     func(s *Stack) { s.Name = "production" },
		"another operation": func(s *Stack) { s.Changes[1].Op = Delete },
		"another resource":  func(s *Stack) { s.Changes[1].URN = "c" },
		"another property":  func(s *Stack) { s.Changes[0].Properties[0].Path = "z" },
		"one more":          func(s *Stack) { s.Changes = append(s.Changes, Change{Op: Create, URN: "c"}) },
		"one less, and one that is not told": func(s *Stack) {
			s.Changes = append(s.Changes[:1], Change{Op: Create, URN: "c"})
		},
	} {
		if changed := s.with(change); changed.Told(body) {
			t.Errorf("%s, and it counts as told", name)
		}
	}
	failed := Report{Stacks: []Stack{{Name: "lab", Error: "why"}}}.Markdown(5000)
	if (Stack{Name: "lab"}).Told(failed) {
		t.Error("a preview that failed told a plan")
	}
	unknown := Report{Stacks: []Stack{{Name: "lab", NotPreviewed: "why"}}}.Markdown(5000)
	if (Stack{Name: "lab"}).Told(unknown) {
		t.Error("a preview that was not made told a plan")
	}
	// What is quoted cannot look like a plan.
	forged := Report{Stacks: []Stack{{Name: "x", Error: strings.Replace(body, "digest", "", 1)}}}.Markdown(5000)
	if s.Told(forged) {
		t.Error("a comment that quotes a plan told it")
	}
}

func TestProposed(t *testing.T) {
	body := Report{Proposed: proposed, Stacks: []Stack{{Name: "lab"}}}.Markdown(5000)
	if got := Proposed(body); got != proposed {
		t.Errorf("it is about %q", got)
	}
	quoting := Report{Stacks: []Stack{{Name: "x", Error: strings.Replace(body, "digest", "", 1)}}}
	if got := Proposed(quoting.Markdown(5000)); got != "" {
		t.Errorf("a comment that quotes one is about %q", got)
	}
	if got := Proposed(Report{Proposed: "main -->"}.Markdown(5000)); got != "" {
		t.Errorf("what is no commit is %q", got)
	}
}

func (s Stack) with(change func(*Stack)) Stack {
	var changes []Change
	for _, c := range s.Changes {
		c.Properties = append([]Property{}, c.Properties...)
		changes = append(changes, c)
	}
	s.Changes = changes
	change(&s)
	return s
}
