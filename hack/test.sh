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

# In CI nothing is taken from an earlier run.
run() {
	go tool -modfile=hack/tools/gotestsum/go.mod gotestsum --format pkgname-and-test-fails --hide-summary=skipped -- \
		-timeout "${TEST_TIMEOUT:-40m}" ${CI:+-count=1} "$@"
}

# Each of these is an operator, a control plane and machines at work, with time limits as a user
# would set them: they get the machine for themselves, one after the other.
whole='/test/(canary|chaos|demo|e2e)$'

mapfile -t packages < <(go list ./... | grep -vE "$whole")
mapfile -t wholes < <(go list ./... | grep -E "$whole")

failed=0
echo "== tests of the parts"
run "${packages[@]}" || failed=1
echo "== tests of the whole"
run -p 1 "${wholes[@]}" || failed=1
exit "$failed"
