// Command mutants plants mistakes in a copy of the checkout, one at a time, and tells which of them the tests notice.
//
// usage: go run ./internal/mutants -gremlins PROGRAM [AREA...]
//
// Without an area it runs all: the packages of goPackages through gremlins, and every section of scripts/mutants.txt.
// It ends well whatever the score; it fails when it could not measure: tests that are red without a mistake, or a
// mistake that cannot be planted any more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
)

const list = "scripts/mutants.txt"

// goPackages are what gremlins changes.
var goPackages = []string{
	"stacks", "components/credentials", "components/edge", "components/flux", "components/k3s", "components/machine",
	"components/remote", "components/sealedsecrets", "components/tailnet",
}

// left are the tests that gremlins runs without, by package: slow ones of scripts, which changes of Go code reach
// through the others too.
var left = map[string]string{
	"components/k3s": "KilledAnywhere|(Node|Uninstall|Dismiss)IsRefused$|TestRestartsOnlyOnChange|ScriptsAreClean",
	"components/machine": "OnAFullDisk|FirewallPackets|RealNft|WatchdogRestores|NeverShutsOut|ScriptsAreClean|" +
		"TestPreflightRefusesTheMachine|TestPreflightAccepts",
}

func main() {
	gremlins := flag.String("gremlins", "gremlins", "the program that changes Go code")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *gremlins, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, gremlins string, areas []string) error {
	sections, err := readList(list)
	if err != nil {
		return err
	}
	if err := known(areas, sections); err != nil {
		return err
	}
	root, err := copyCheckout(ctx)
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)

	asked := func(area string) bool { return len(areas) == 0 || slices.Contains(areas, area) }
	var scores []score
	var problems []error
	take := func(s score, err error) {
		if s.total > 0 {
			scores = append(scores, s)
		}
		problems = append(problems, err)
	}
	for _, s := range sections {
		if asked(s.area) && ctx.Err() == nil {
			take(s.run(ctx, root))
		}
	}
	for _, p := range goPackages {
		if asked(p) && ctx.Err() == nil {
			take(unleash(ctx, gremlins, root, p))
		}
	}
	report(scores)
	return errors.Join(append(problems, ctx.Err())...)
}

// known refuses areas that nobody has: a misspelt one would look like a perfect score.
func known(areas []string, sections []section) error {
	all := slices.Clone(goPackages)
	for _, s := range sections {
		all = append(all, s.area)
	}
	slices.Sort(all)
	for _, area := range areas {
		if !slices.Contains(all, area) {
			return fmt.Errorf("%s: no such area: nothing was run: name some of %s", area,
				strings.Join(slices.Compact(all), " "))
		}
	}
	return nil
}

// score is what was measured in one area, by one kind of mistakes.
type score struct {
	area, kind    string
	caught, total int
	survivors     []string
}

// report prints a table, the sections of an area together, and every survivor.
func report(scores []score) {
	var rows []score
	for _, s := range scores {
		same := func(r score) bool { return r.area == s.area && r.kind == s.kind }
		if i := slices.IndexFunc(rows, same); i >= 0 {
			rows[i].caught += s.caught
			rows[i].total += s.total
			rows[i].survivors = append(rows[i].survivors, s.survivors...)
		} else {
			rows = append(rows, s)
		}
	}
	fmt.Println()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(table, "| area\t| mistakes\t| caught\t| of\t| %\t|")
	fmt.Fprintln(table, "|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range rows {
		percent := 100 * r.caught / r.total
		fmt.Fprintf(table, "| %s\t| %s\t| %d\t| %d\t| %d\t|\n", r.area, r.kind, r.caught, r.total, percent)
	}
	_ = table.Flush()
	for _, r := range rows {
		for _, s := range r.survivors {
			fmt.Printf("survived in %s: %s\n", r.area, s)
		}
	}
}
