#!/usr/bin/env bash
# Generates, formats, vets, lints and tidies, and fails if that changes a file or finds a fault.
set -euo pipefail
cd "$(dirname "$0")/.."

state() { git ls-files -z --cached --others --exclude-standard | sort -z | xargs -0 -r sha256sum 2>/dev/null | sha256sum; }

# What the documentation says is tested must be tested: each name in it is that of a test.
named_tests() {
	grep -ohE '`(Test|Fuzz)[A-Za-z0-9_]+`' docs/security.md docs/pitfalls.md | tr -d '`' | sort -u
}
written_tests() {
	git grep -hoE '^func (Test|Fuzz)[A-Za-z0-9_]+' -- '*_test.go' | sed 's/^func //' | sort -u
}
missing=$(comm -23 <(named_tests) <(written_tests))
if [ -n "$missing" ]; then
	printf 'verify: docs/security.md or docs/pitfalls.md names tests that do not exist:\n%s\n' "$missing" >&2
	exit 1
fi

before=$(state)
for target in generate fmt vet lint tidy; do
	echo "== make $target"
	make --no-print-directory "$target"
done
if [ "$(state)" != "$before" ]; then
	echo "verify: the commands above changed files; commit what they wrote:" >&2
	git status --short >&2
	exit 1
fi
echo "verify: nothing to change"
