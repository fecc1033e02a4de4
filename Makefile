# The commands of this project. They need Go, git and make; what else `check` and the lab use they install themselves.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help site up down status test check-tree mutants e2e growth kills check bench clean

# A checkout that another user owns has no revision to read; a workspace file in a folder above would change which
# modules are used; and without the folder's name in it, what one checkout has compiled serves the next, and the
# previews of changes, whose engine builds the program so.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false -trimpath)
export GOWORK := off
# Whether there is a C compiler, which the lab installs, would decide what is to be compiled once more.
export CGO_ENABLED := 0

lab := go -C lab run .

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# On a terminal it asks for what is not given: NAME=acme ZONE=example.com GIT=https://git.example.com/me/site.git
# KEY=~/acme-sealing.pem HOST=box. With FROM=lab it is a site for the lab, and `make site up` makes and runs it.
site: ## make what a site of your own needs, NAME=acme: settings, folders, keys; then check and preview it
	@scripts/site.sh new $(if $(NAME),'$(NAME)') $(if $(FROM),--from '$(FROM)') $(if $(ZONE),--zone '$(ZONE)') \
		$(if $(GIT),--git '$(GIT)') $(if $(KEY),--key "$(KEY)") $(if $(HOST),--host '$(HOST)')

# The lab's site, from the command line alone: some shells have a NAME of their own.
ifeq ($(origin NAME),command line)
up down status: export TINYRACK_LAB_SITE := $(NAME)
endif

up: ## provision the lab stack, or that of NAME=acme, for real on this machine, from nothing or from where it stopped
	@$(lab) up

down: ## destroy the lab stack and remove all that the lab made, but its cache
	@$(lab) down

status: ## what runs in the lab, and whether it is well
	@$(lab) status

test: ## unit, mock and script tests, the GitOps tree, and a preview of every stack: no cluster, no machine
	@scripts/test.sh

# Never from Go's test cache: it knows the files of the module, and the tree lies outside it.
check-tree: ## clusters/, infrastructure/, databases/ and apps/ as Flux will read them, on any workstation
	go -C gitops test -count=1 ./...

# Not a part of test: it takes hours. PACKAGES="stacks components/edge scripts" runs these alone.
mutants: ## plant mistakes in Go, shell and YAML, and see whether the tests notice: docs/benchmarks.md
	@scripts/mutants.sh $(PACKAGES)

e2e: ## the lab from nothing: up, change, push, break, look, down
	PULUMI_BIN="$$($(lab) pulumi)" go -C lab test -tags e2e -count=1 ./plugins
	go -C lab test -tags e2e -count=1 -failfast -timeout 75m -v .
	go -C lab test -tags e2e -count=1 ./tailscale

# Not a part of e2e: two hours, and k3s of another release to build before it.
growth: ## what documents say, previews that agree, applies at once, mishaps; then five machines, an upgrade, one again
	go -C lab test -tags e2e,growth -count=1 -timeout 180m -v -run \
		'^Test(Documentation|PreviewsAgree|TwoApplies|Applications|PlainGit|ADatabaseInTrouble|Mishaps|Growth)$$' .

# Not a part of e2e: it takes an hour or two. What it has done is noted in the lab; down forgets it.
kills: ## kill up and down at every boundary of the stack, in a lab from nothing; goes on where it stopped
	go -C lab test -tags e2e,kills -count=1 -timeout 6h -v -run '^TestKillsAtEveryBoundary$$' .

check: ## formatting, vet, lint, shell scripts, YAML
	@scripts/check.sh

bench: ## previews and compiles of docs/benchmarks.md, on a lab that is up
	@$(lab) bench

clean: ## down, and remove the cache too
	@$(lab) clean
