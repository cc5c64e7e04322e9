#!/usr/bin/env bash
# Runs every test that this machine can run, after installing and building what they need.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v go >/dev/null || { echo "make test needs Go $(sed -n 's/^go //p' go.mod) or later" >&2; exit 1; }
if [ "$(id -u)" != 0 ]; then
	echo "make test: without root the tests on real machines are left out, and say so"
fi

echo "== what the tests need (built once, kept in ${ISTHMUS_CACHE:-the cache})"
KUBEBUILDER_ASSETS=$(go run ./test/testbed/cmd/prepare "$@")
export KUBEBUILDER_ASSETS

echo "== tests"
# In CI nothing is taken from an earlier run.
exec go tool -modfile=hack/tools/gotestsum/go.mod gotestsum --format pkgname-and-test-fails --hide-summary=skipped -- \
	-timeout "${TEST_TIMEOUT:-40m}" ${CI:+-count=1} ./...
