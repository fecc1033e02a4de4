#!/bin/sh
# What a change does to every stack and to what Flux applies. Without flags: the files of this checkout, on top of the
# remote's main, compared with the state that was published when it was last applied. No secret is needed or in reach.
#
#   scripts/preview.sh [STACK]...
#   scripts/preview.sh --state real [STACK]...     compared with the real state, with its passphrase and backend
#   scripts/preview.sh --pull 12 [--comment]       a pull request, and tell it: how CI calls it
#   scripts/preview.sh --help
#
# Exit status: 0 nothing changes, 10 something does, 20 what holds data would be deleted or replaced, 1 it failed.
set -eu

cd "$(dirname "$0")/.."
# Not go run, which knows one exit status alone.
GOWORK=off CGO_ENABLED=0 go -C ci build -buildvcs=false -o ../.bin/ci .
exec .bin/ci preview "$@"
