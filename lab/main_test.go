package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestUsageNamesEveryVerb(t *testing.T) {
	hidden := map[string]bool{"serve": true, "pin-releases": true, "stand-in": true}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(verbs)), slices.Collect(maps.Keys(named))) {
		if named := strings.Contains(usage, "\n  "+name+" "); named == hidden[name] {
			t.Errorf("%s: in the usage: %v", name, named)
		}
	}
}

func TestUnknownCallsAreRefused(t *testing.T) {
	for _, args := range [][]string{nil, {"up", "down"}, {"upp"}} {
		if err := run(t.Context(), args); err == nil || !strings.Contains(err.Error(), "usage: go -C lab run . COMMAND") {
			t.Errorf("%v: %v", args, err)
		}
	}
}
