#!/usr/bin/env bash
# Generates, formats, vets, lints and tidies, and fails if that changes a file or finds a fault.
set -euo pipefail
cd "$(dirname "$0")/.."

state() { git ls-files -z --cached --others --exclude-standard | sort -z | xargs -0 -r sha256sum 2>/dev/null | sha256sum; }

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
