package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"

	"github.com/tinyrack-net/infrastructure/ci/engine"
	"github.com/tinyrack-net/infrastructure/ci/lock"
	"github.com/tinyrack-net/infrastructure/ci/published"
	"github.com/tinyrack-net/infrastructure/ci/report"
	"github.com/tinyrack-net/infrastructure/ci/repository"
	"github.com/tinyrack-net/infrastructure/ci/sandbox"
)

// applying is the application of the checkout's commit to one stack.
type applying struct {
	repo   *repository.Repository
	stack  string
	engine *engine.Engine
	// box is where the published state is tried as those without a secret will.
	box    *sandbox.Box
	commit string
	// pull is the pull request that the commit came from: 0 for none.
	pull int
	// told is the comment by which the pull request was told of a preview; empty where it was told of none. another says
	// that something else may be done as well.
	told      string
	another   bool
	dangerous bool
	secrets   []string
	// begun says that something may have been changed.
	begun bool
}

func applyVerb(ctx context.Context, args []string) (report.Status, error) {
	flags := flag.NewFlagSet("apply", flag.ContinueOnError)
	remote := flags.String("remote", "origin", "the remote that the commit was merged at")
	comment := flags.Bool("comment", false, "find the pull request that the commit came from, hold to what it was told, "+
		"and tell it how it went")
	dangerous := flags.Bool("dangerous", false, "also delete or replace what holds data")
	another := flags.Bool("another-plan", false, "also do what the pull request was not told of")
	success := changeIsSuccess(flags)
	publish := flags.Bool("publish", false, "publish the state without its secrets, and change nothing else")
	unlock := flags.Bool("unlock", false, "break the lock of a stack whose holder is gone, and do nothing else")
	if err := flags.Parse(args); err != nil {
		return report.Failed, err
	}
	if flags.NArg() != 1 {
		return report.Failed, errors.New("apply: wants the name of one stack")
	}
	repo, err := repository.Open(ctx, ".", *remote, token())
	if err != nil {
		return report.Failed, err
	}
	a := &applying{
		repo: repo, stack: flags.Arg(0), another: *another, dangerous: *dangerous, secrets: []string{token()},
	}
	if *unlock {
		return report.NoChange, a.lock().Break(ctx)
	}
	if a.engine, err = engine.Find(repo.Dir); err != nil {
		return report.Failed, err
	}
	if a.commit, err = repo.Commit(ctx, "HEAD"); err != nil {
		return report.Failed, err
	}
	if *publish {
		return report.NoChange, a.lock().Do(ctx, a.withBox(a.publishApplied))
	}
	tell := func(string) error { return nil }
	if *comment {
		if tell, err = a.pullRequest(ctx); err != nil {
			return report.Failed, err
		}
	}
	status := report.NoChange
	err = a.lock().Do(ctx, a.withBox(func(ctx context.Context) error {
		status, err = a.run(ctx)
		return err
	}))
	text := fmt.Sprintf("%s: %s applied: %s", a.stack, short(a.commit), status)
	if err != nil {
		text = fmt.Sprintf("%s: applying %s failed\n%v", a.stack, short(a.commit), err)
		if a.begun {
			text += "\nRun it again: it goes on where it stopped."
		}
		if report.Leaks(text, a.secrets) {
			text = fmt.Sprintf("%s: applying %s failed; the reason holds a secret and is not told", a.stack, short(a.commit))
			err = errors.New(text)
		}
	}
	// What happened is told even when this was interrupted.
	return success(status), errors.Join(err, tell(text))
}

// pullRequest finds the pull request that the commit came from, and returns how to tell it something.
func (a *applying) pullRequest(ctx context.Context) (tell func(string) error, err error) {
	host, err := gitHost()
	if err != nil {
		return nil, err
	}
	number, found, err := host.PullOf(ctx, a.commit)
	if err != nil || !found {
		say("%s came from no pull request: it is held to no preview", short(a.commit))
		return func(string) error { return nil }, err
	}
	a.pull = number
	body, found, err := host.Comment(ctx, number, report.Marker)
	if err != nil {
		return nil, err
	}
	if found {
		a.told = body
	}
	return func(text string) error {
		telling, stop := context.WithTimeout(context.WithoutCancel(ctx), tellLimit)
		defer stop()
		return host.Add(telling, number, report.Code(text, host.Limit()))
	}, nil
}

// holdToPlan refuses to do what the pull request was not told of, by a preview of the very commit that was merged: a
// plan has no values.
func (a *applying) holdToPlan(ctx context.Context, stack report.Stack) error {
	if a.pull == 0 || a.another {
		return nil
	}
	const byHand = "run scripts/apply.sh --another-plan by hand if it is wanted"
	if a.told == "" {
		return fmt.Errorf("pull request %d was told of no preview: nothing was applied: see the preview above, and %s",
			a.pull, byHand)
	}
	merged, err := proposed(ctx, a.repo, a.pull)
	if err != nil {
		return err
	}
	if previewed := report.Proposed(a.told); previewed != merged {
		return fmt.Errorf("pull request %d was told of a preview of %s, and %s was merged: nothing was applied: see the "+
			"preview above, and %s", a.pull, cmp.Or(short(previewed), "another commit"), short(merged), byHand)
	}
	if !stack.Told(a.told) {
		return fmt.Errorf("it would do other than what pull request %d was told: nothing was applied: see what changed "+
			"since. What was merged before it and is not applied yet is applied by its own run: then run this one again. "+
			"Else %s", a.pull, byHand)
	}
	return nil
}

func (a *applying) lock() *lock.Lock {
	return &lock.Lock{
		Dir: a.repo.Dir, Remote: a.repo.Remote, Stack: a.stack, Holder: holder(), Say: say, Env: a.repo.Env(),
	}
}

// withBox is do with a box to publish from: what publishing needs is missed before do, and not once all is applied.
func (a *applying) withBox(do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		dir, err := os.MkdirTemp("", "apply")
		if err != nil {
			return err
		}
		defer remove(dir)
		if a.box, err = sandbox.New(ctx, dir); err != nil {
			return fmt.Errorf("what is applied could not be published: nothing was applied: %w", err)
		}
		return do(ctx)
	}
}

// holder says who this is, to those who wait.
func holder() string {
	who := "somebody"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	name, _ := os.Hostname()
	text := who + "@" + name
	if run := os.Getenv("GITHUB_RUN_ID"); run != "" {
		text += fmt.Sprintf(", %s/%s/actions/runs/%s", os.Getenv("GITHUB_SERVER_URL"), os.Getenv("GITHUB_REPOSITORY"), run)
	}
	return text
}

// run applies the commit, with the lock held.
func (a *applying) run(ctx context.Context) (report.Status, error) {
	published, err := a.refuseOlder(ctx)
	if err != nil {
		return report.Failed, err
	}
	settings, err := a.engine.Secrets(ctx, a.stack)
	if err != nil {
		return report.Failed, err
	}
	a.secrets = slices.AppendSeq(a.secrets, maps.Values(settings))
	if err := a.hide(ctx); err != nil {
		return report.Failed, err
	}
	say("%s: preview", a.stack)
	digest, err := a.engine.Preview(ctx, a.stack)
	if err != nil {
		return report.Failed, err
	}
	stack := report.Stack{Name: a.stack, State: "the real state", Site: digest.Site()}
	stack.Changes, stack.Same = digest.Changes()
	found := report.Report{Head: a.commit, Stacks: []report.Stack{stack}}
	if report.Leaks(found.Text(), a.secrets) {
		say("%s: a secret is in the preview: it is not shown: the program puts a secret where none belongs", a.stack)
	} else {
		fmt.Fprintln(os.Stdout, found.Text())
	}
	status := found.Status()
	if status == report.Dangerous && !a.dangerous {
		return status, errDangerous
	}
	if status != report.NoChange {
		if err := a.holdToPlan(ctx, stack); err != nil {
			return report.Failed, err
		}
		if err := a.up(ctx); err != nil {
			return report.Failed, err
		}
		status = report.Changed
	}
	if status == report.NoChange && published {
		return status, nil
	}
	return status, a.publish(ctx)
}

// up applies, and shows what the engine says of it but for secrets.
func (a *applying) up(ctx context.Context) error {
	say("%s: up", a.stack)
	a.begun = true
	shown := &report.Filter{Out: lines(say), Secrets: a.secrets}
	err := a.engine.Up(ctx, a.stack, shown)
	if err != nil {
		// What it made until then may be in what is told of the failure.
		ended, stop := context.WithTimeout(context.WithoutCancel(ctx), tellLimit)
		defer stop()
		if failure := a.hide(ended); failure != nil {
			err = fmt.Errorf("pulumi up failed, and its reason is not told, for what is secret in it is not known: %w", failure)
		}
	}
	return errors.Join(err, shown.Close())
}

// hide adds the secrets that the state alone has to those that are told nobody.
func (a *applying) hide(ctx context.Context) error {
	exported, tree, err := a.state(ctx)
	if err != nil {
		return err
	}
	secrets, err := published.Secrets(exported, tree)
	a.secrets = append(a.secrets, secrets...)
	return err
}

// state is the stack's state in clear, and a folder of its own with the files of the commit.
func (a *applying) state(ctx context.Context) (exported, tree string, err error) {
	if exported, err = a.engine.Export(ctx, a.stack); err != nil {
		return "", "", err
	}
	tree, err = a.repo.Worktree(ctx, a.commit, a.box.Dir)
	return exported, tree, err
}

// errDangerous is a refusal that has an exit status of its own.
var errDangerous = errors.New("it would delete or replace what holds data: nothing was applied: see the preview, and " +
	"run scripts/apply.sh --dangerous by hand if that is wanted")

// refuseOlder refuses a commit that lacks what was applied last: it would take that back. It tells whether the state of
// this commit is published already.
func (a *applying) refuseOlder(ctx context.Context) (published bool, err error) {
	dirty, err := a.repo.Git(ctx, "status", "--porcelain")
	if err != nil {
		return false, err
	}
	if dirty != "" {
		return false, errors.New("the checkout has changes that are not committed: what is applied would be in no commit: " +
			"commit them, or remove them")
	}
	state, found, err := findState(ctx, a.repo, a.stack)
	if err != nil || !found || state.Commit == a.commit {
		return found, err
	}
	if _, err := a.repo.Git(ctx, "merge-base", "--is-ancestor", state.Commit, a.commit); err != nil {
		return false, fmt.Errorf("%s was applied last, which %s does not have: it would be taken back: apply a commit that "+
			"has it", short(state.Commit), short(a.commit))
	}
	return false, nil
}

// publishApplied publishes the state of what is applied already. It refuses when the checkout is something else: what
// differs would show in no preview.
func (a *applying) publishApplied(ctx context.Context) error {
	if _, err := a.refuseOlder(ctx); err != nil {
		return err
	}
	say("%s: preview", a.stack)
	digest, err := a.engine.Preview(ctx, a.stack)
	if err != nil {
		return err
	}
	if changes, _ := digest.Changes(); len(changes) > 0 {
		return fmt.Errorf("%s is not what is applied, for %d resources would change, %s first: published, that would show "+
			"in no preview: apply it: scripts/apply.sh %s", short(a.commit), len(changes), changes[0].Name, a.stack)
	}
	return a.publish(ctx)
}

// publish makes the state known to those who preview without a secret.
func (a *applying) publish(ctx context.Context) error {
	say("%s: publish the state without its secrets", a.stack)
	secrets, err := a.engine.Secrets(ctx, a.stack)
	if err != nil {
		return err
	}
	exported, tree, err := a.state(ctx)
	if err != nil {
		return err
	}
	state, err := published.Make(ctx, a.box, a.stack, a.commit, tree, exported, secrets)
	if err != nil {
		return err
	}
	text, err := state.Text()
	if err != nil {
		return err
	}
	return a.repo.Publish(ctx, published.Branch(a.stack), published.File, "state of "+a.stack+" at "+a.commit, text)
}
