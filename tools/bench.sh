#!/bin/bash
# Measures, or with --check compares instruction counts with the committed ones. Needs `make build`; the make targets do
# both. What is printed is also in target/bench, as report.md, report.json and pictures.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$root"
say "building the benchmark"
cargo build --locked --release -p firstlight-bench
exec "$target/release/bench" "$@"
