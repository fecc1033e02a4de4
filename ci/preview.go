package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tinyrack-net/infrastructure/ci/changes"
	"github.com/tinyrack-net/infrastructure/ci/engine"
	"github.com/tinyrack-net/infrastructure/ci/published"
	"github.com/tinyrack-net/infrastructure/ci/report"
	"github.com/tinyrack-net/infrastructure/ci/repository"
	"github.com/tinyrack-net/infrastructure/ci/sandbox"
	"github.com/tinyrack-net/infrastructure/gitops"
)

// The states that a change is previewed against.
const (
	realState      = "real"
	publishedState = "published"
)

const (
	// previewLimit is how long a preview may take. A CI system ends a run without a word; this is before that.
	previewLimit = 25 * time.Minute
	// tellLimit is how long telling may take once a run was interrupted.
	tellLimit = time.Minute
)

// previewing is one preview of a change.
type previewing struct {
	repo *repository.Repository
	// base is the commit that the change goes on top of, head the change on top of it.
	base, head string
	// proposed is the pull request's own commit. Empty for the checkout's files.
	proposed string
	state    string
	stacks   []string // these alone; all that the change touches where there are none
	dir      string   // for everything that is written
	secrets  []string // what must not be in a report
	box      func() (*sandbox.Box, error)
}

func previewVerb(ctx context.Context, args []string) (report.Status, error) {
	flags := flag.NewFlagSet("preview", flag.ContinueOnError)
	remote := flags.String("remote", "origin", "the remote that the change is proposed to")
	branch := flags.String("base", "main", "the branch that the change is proposed to")
	pull := flags.Int("pull", 0, "the number of a pull request; without one the checkout's files are previewed")
	state := flags.String("state", publishedState, "what to compare with: published, by anyone and without a secret, or "+
		"real, with the stack's passphrase and backend")
	comment := flags.Bool("comment", false, "tell the pull request")
	out := flags.String("report", "", "write the report to this file, too, as JSON")
	success := changeIsSuccess(flags)
	if err := flags.Parse(args); err != nil {
		return report.Failed, err
	}
	if *state != realState && *state != publishedState {
		return report.Failed, fmt.Errorf("--state=%s: is neither real nor published", *state)
	}
	if *comment && *pull == 0 {
		return report.Failed, errors.New("--comment: needs --pull: there is nobody to tell")
	}
	dir, err := os.MkdirTemp("", "preview")
	if err != nil {
		return report.Failed, err
	}
	defer remove(dir)
	repo, err := repository.Open(ctx, ".", *remote, token())
	if err != nil {
		return report.Failed, err
	}
	p := &previewing{
		repo: repo, state: *state, stacks: flags.Args(), dir: dir, secrets: []string{token()},
		box: sync.OnceValues(func() (*sandbox.Box, error) { return sandbox.New(ctx, dir) }),
	}
	began := time.Now()
	limited, stop := context.WithTimeoutCause(ctx, previewLimit, fmt.Errorf("it took longer than %s", previewLimit))
	defer stop()
	found, err := p.run(limited, *branch, *pull)
	if limited.Err() != nil {
		// Whatever was found until then is not all.
		err = fmt.Errorf("the preview was ended before it was done: %w", errors.Join(context.Cause(limited), err))
	}
	if err != nil {
		// The pull request is told of that, too: silence would look like no change.
		found = failed(p.base, p.head, err)
	}
	found.Proposed = p.proposed
	say("previewed in %s", time.Since(began).Round(time.Second))
	// What is known is told even when this was interrupted: the comment that stands would be taken for this one.
	status, err := finish(context.WithoutCancel(ctx), *found, p.secrets, *pull, *comment, *out)
	return success(status), err
}

// changeIsSuccess adds the flag for a CI system, to which every exit status but 0 is a failure.
func changeIsSuccess(flags *flag.FlagSet) func(report.Status) report.Status {
	set := flags.Bool("change-is-success", false, "exit with 0 where something changes, too, as a CI system wants it")
	return func(status report.Status) report.Status {
		if *set && status == report.Changed {
			return report.NoChange
		}
		return status
	}
}

// failed is the report of a preview that there is none of.
func failed(base, head string, err error) *report.Report {
	return &report.Report{Base: base, Head: head, Stacks: []report.Stack{{Name: "all", Error: err.Error()}}}
}

// finish tells what was found: to a person, to a file, and to the pull request.
func finish(
	ctx context.Context, found report.Report, secrets []string, pull int, comment bool, out string,
) (report.Status, error) {
	whole, err := json.MarshalIndent(found, "", "  ")
	if err == nil && report.Leaks(string(whole), secrets) {
		// Told in the place of the report: the one before it must not stay for this one.
		found = *failed(found.Base, found.Head, errors.New("a secret is in the report: nothing is shown or told of it: the "+
			"program puts a secret where none belongs: see what the change does with its settings"))
		whole, err = json.MarshalIndent(found, "", "  ")
	}
	if err != nil {
		return report.Failed, err
	}
	fmt.Fprintln(os.Stdout, found.Text())
	if out != "" {
		if err := os.WriteFile(out, whole, 0o600); err != nil {
			return report.Failed, err
		}
	}
	if comment {
		host, err := gitHost()
		if err != nil {
			return report.Failed, err
		}
		text := found.Markdown(host.Limit())
		telling, stop := context.WithTimeout(ctx, tellLimit)
		defer stop()
		if err := host.Upsert(telling, pull, report.Marker, text); err != nil {
			return report.Failed, fmt.Errorf("tell pull request %d: %w", pull, err)
		}
	}
	return found.Status(), nil
}

// run finds what the change is, and what it does.
func (p *previewing) run(ctx context.Context, branch string, pull int) (*report.Report, error) {
	if err := p.commits(ctx, branch, pull); err != nil {
		return nil, err
	}
	found := &report.Report{Base: p.base, Head: p.head}
	files, err := p.repo.Changed(ctx, p.base, p.head)
	if err != nil {
		return nil, err
	}
	headTree, err := p.repo.Worktree(ctx, p.head, p.dir)
	if err != nil {
		return nil, err
	}
	stacks, err := engine.Stacks(headTree)
	if err != nil {
		return nil, err
	}
	if found.Stacks, err = p.removed(ctx, files, stacks); err != nil {
		return nil, err
	}
	touched := changes.Of(files, stacks)
	if len(p.stacks) > 0 {
		touched.Stacks = p.stacks
	}
	if touched.None() && len(found.Stacks) == 0 {
		found.Untouched = "no stack and nothing that Flux applies depends on what changes: " + list(files)
		return found, nil
	}
	say("files that change: %d; stacks: %s; Flux: %t", len(files), cmp.Or(strings.Join(touched.Stacks, ", "), "none"),
		touched.Tree)
	if touched.Tree {
		baseTree, err := p.repo.Worktree(ctx, p.base, p.dir)
		if err != nil {
			return nil, err
		}
		if found.Trees, err = p.trees(ctx, baseTree, headTree); err != nil {
			return nil, err
		}
	}
	for _, stack := range touched.Stacks {
		say("%s: preview against the %s state", stack, p.state)
		found.Stacks = append(found.Stacks, p.stack(ctx, stack))
	}
	return found, nil
}

// removed are the stacks whose settings the change takes away while a state of them is published: what is applied would
// be left to itself, and nothing of that would show.
func (p *previewing) removed(ctx context.Context, files, stacks []string) ([]report.Stack, error) {
	var found []report.Stack
	for _, file := range files {
		name := changes.Stack(file)
		if name == "" || slices.Contains(stacks, name) {
			continue
		}
		_, applied, err := findState(ctx, p.repo, name)
		if err != nil {
			return nil, err
		}
		if applied {
			found = append(found, report.Stack{Name: name, Error: fmt.Sprintf("%s is taken away, and the stack is applied: "+
				"what it made would be left to itself, and changed by nothing any more: destroy the stack first and delete "+
				"the branch %s, or keep the file", file, published.Branch(name))})
		}
	}
	return found, nil
}

// proposed gets the commit of a pull request, from the ref that its host keeps.
func proposed(ctx context.Context, repo *repository.Repository, pull int) (string, error) {
	for _, ref := range []string{"refs/pull/%d/head", "refs/merge-requests/%d/head"} {
		head, found, err := repo.Fetch(ctx, fmt.Sprintf(ref, pull))
		if err != nil || found {
			return head, err
		}
	}
	return "", fmt.Errorf("%s has no pull request %d: there is nothing to preview", repo.Remote, pull)
}

// commits finds the two commits to compare.
func (p *previewing) commits(ctx context.Context, branch string, pull int) error {
	base, found, err := p.repo.Fetch(ctx, "refs/heads/"+branch)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s has no branch %s: there is nothing to compare with: name it with --base", p.repo.Remote, branch)
	}
	p.base = base
	if pull == 0 {
		files, err := p.repo.Snapshot(ctx)
		if err != nil {
			return err
		}
		p.head, err = p.repo.Merge(ctx, base, files)
		return err
	}
	if p.proposed, err = proposed(ctx, p.repo, pull); err != nil {
		return err
	}
	p.head, err = p.repo.Merge(ctx, base, p.proposed)
	return err
}

// stack previews one stack. What goes wrong is in its part of the report.
func (p *previewing) stack(ctx context.Context, name string) report.Stack {
	s := report.Stack{Name: name}
	digest, err := p.digest(ctx, &s)
	if digest != nil {
		s.Site = digest.Site()
		s.Changes, s.Same = digest.Changes()
	}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

func (p *previewing) digest(ctx context.Context, s *report.Stack) (*engine.Digest, error) {
	if p.state == realState {
		folder, err := p.repo.Worktree(ctx, p.head, p.dir)
		if err != nil {
			return nil, err
		}
		defer remove(folder)
		s.State = "the real state"
		e, err := engine.Find(folder)
		if err != nil {
			return nil, err
		}
		secrets, err := e.Secrets(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		p.secrets = slices.AppendSeq(p.secrets, maps.Values(secrets))
		exported, err := e.Export(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		generated, err := published.Secrets(exported, folder)
		if err != nil {
			return nil, err
		}
		p.secrets = append(p.secrets, generated...)
		return e.Preview(ctx, s.Name)
	}
	state, found, err := findState(ctx, p.repo, s.Name)
	if err != nil {
		return nil, err
	}
	if !found {
		// A stack that nobody applies, or not from here, is no reason to fail every change of the program.
		s.NotPreviewed = fmt.Sprintf("no state of it is published: run scripts/apply.sh %s, or "+
			"scripts/apply.sh --publish %s, where the passphrase is", s.Name, s.Name)
		if len(p.stacks) > 0 {
			return nil, fmt.Errorf("%s: not previewed: %s", s.Name, s.NotPreviewed)
		}
		return nil, nil //nolint:nilnil // nothing to compare
	}
	s.State = "the state published at " + short(state.Commit)
	if state.Commit != p.base {
		if s.Behind, err = p.behind(ctx, state.Commit); err != nil {
			return nil, err
		}
	}
	box, err := p.box()
	if err != nil {
		return nil, err
	}
	folder, err := p.repo.Worktree(ctx, p.head, p.dir)
	if err != nil {
		return nil, err
	}
	defer remove(folder) // one for each stack would be many
	return state.Preview(ctx, box, folder)
}

// behind says what else is shown when the state is not that of the base: changes that were merged and not applied.
func (p *previewing) behind(ctx context.Context, applied string) (string, error) {
	files, err := p.repo.Changed(ctx, applied, p.base)
	if err != nil {
		//nolint:nilerr // a clone without history: it is told
		return fmt.Sprintf("applied was %s, which this clone does not have: what is not applied yet shows, too",
			short(applied)), nil
	}
	stacks, err := engine.Stacks(p.repo.Dir)
	if err != nil {
		return "", err
	}
	if len(changes.Of(files, stacks).Stacks) == 0 {
		return "", nil
	}
	return fmt.Sprintf("applied was %s; what was merged since shows, too", short(applied)), nil
}

// findState gets what is published of a stack, if anything is.
func findState(
	ctx context.Context, repo *repository.Repository, stack string,
) (state *published.State, found bool, err error) {
	commit, found, err := repo.Fetch(ctx, "refs/heads/"+published.Branch(stack))
	if err != nil || !found {
		return nil, false, err
	}
	text, err := repo.Git(ctx, "show", commit+":"+published.File)
	if err != nil {
		return nil, false, err
	}
	state = &published.State{}
	if err := json.Unmarshal([]byte(text), state); err != nil {
		return nil, false, fmt.Errorf("the published state of %s cannot be read: %w: publish it again", stack, err)
	}
	return state, true, nil
}

// trees compare what Flux applies in every environment. The tree of a change may name any file of this machine, so that
// of one that nobody trusts is rendered in a box.
func (p *previewing) trees(ctx context.Context, base, head string) ([]report.Tree, error) {
	if p.state == realState {
		return compare(base, head)
	}
	box, err := p.box()
	if err != nil {
		return nil, err
	}
	text, err := box.Self(ctx, compareVerb, base, head)
	if err != nil {
		return nil, fmt.Errorf("what Flux applies cannot be compared: %w", err)
	}
	var found []report.Tree
	return found, json.Unmarshal(text, &found)
}

// compareVerb is how this program is called in the box.
const compareVerb = "compare"

// compareTrees prints the difference of two folders as JSON.
func compareTrees(_ context.Context, args []string) (report.Status, error) {
	if len(args) != 2 {
		return report.Failed, errors.New(compareVerb + ": wants two folders")
	}
	found, err := compare(args[0], args[1])
	if err != nil {
		return report.Failed, err
	}
	return report.NoChange, json.NewEncoder(os.Stdout).Encode(found)
}

func compare(base, head string) ([]report.Tree, error) {
	environments, err := gitops.Diff(base, head)
	if err != nil {
		return nil, err
	}
	var found []report.Tree
	for _, e := range environments {
		tree := report.Tree{Environment: e.Environment, Note: e.Note, Error: e.Error}
		for _, o := range e.Objects {
			tree.Objects = append(tree.Objects, report.Object(o))
		}
		found = append(found, tree)
	}
	return found, nil
}

// list names the first of some files, and says how many there are.
func list(files []string) string {
	const some = 10
	if len(files) <= some {
		return strings.Join(files, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(files[:some], ", "), len(files)-some)
}

func short(commit string) string { return commit[:min(7, len(commit))] }
