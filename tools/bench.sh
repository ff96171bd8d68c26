#!/bin/bash
# Measures, or with --check compares instruction counts with the committed ones. Needs `make build`; the make targets do
# both. What is printed is also in target/bench, as report.md, report.json and pictures.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$root"
# Counting needs none of these; what is missing is a row that says so.
case " $* " in
    *" --check "* | *" --update "* | *" --help "*) ;;
    *)
        "$root/tools/packages.sh" --bench || say "going on without them"
        "$root/tools/debian-root.sh" rivals >/dev/null || say "going on without it"
        ;;
esac
say "building the benchmark"
cargo build --locked --release -p firstlight-bench
exec "$target/release/bench" "$@"
