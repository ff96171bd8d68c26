#!/bin/bash
# Runs every test of the workspace, a line each. Needs `make build`; `make test` does both.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$root"
exec cargo test --locked --workspace --no-fail-fast "$@"
