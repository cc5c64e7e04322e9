#!/usr/bin/env bash
# Shows the main job on a control plane and machines made for it.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v go >/dev/null || { echo "make demo needs Go $(sed -n 's/^go //p' go.mod) or later" >&2; exit 1; }
[ "$(uname -s)" = Linux ] || { echo "make demo needs Linux: it boots real Linux machines and a node" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "make demo needs root: it makes a bridge and boots machines on it" >&2; exit 1; }
[ -e /etc/debian_version ] || { echo "make demo needs Debian or one of its children: it installs what it needs with apt-get" >&2; exit 1; }

go build -o bin/demo ./test/demo
# In place of this shell: Ctrl-C and TERM reach the demo, which tidies up.
exec bin/demo "$@"
