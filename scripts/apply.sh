#!/bin/sh
# Applies the commit of this checkout to a stack, under a lock at the git host: no two of these meet, wherever they run.
# Then publishes the state without its secrets, for previews. Interrupted, it is run again and goes on.
#
#   scripts/apply.sh STACK
#   scripts/apply.sh --dangerous STACK     also delete or replace what holds data
#   scripts/apply.sh --comment STACK       hold to what the merged pull request was told, and tell it: how CI calls it
#   scripts/apply.sh --change-is-success … exit with 0 for 10, as a CI system wants it
#   scripts/apply.sh --another-plan STACK  also do what the merged pull request was not told of
#   scripts/apply.sh --publish STACK       publish the state and change nothing else
#   scripts/apply.sh --unlock STACK        break the lock, when its holder is gone
#   scripts/apply.sh --help
#
# Exit status: 0 nothing changed, 10 applied, 20 refused as dangerous, 1 it failed.
set -eu

cd "$(dirname "$0")/.."
# Not go run, which knows one exit status alone.
GOWORK=off CGO_ENABLED=0 go -C ci build -buildvcs=false -o ../.bin/ci .
exec .bin/ci apply "$@"
