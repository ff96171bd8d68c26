#!/bin/bash
# What has to hold besides the tests: format, lints, and the dependencies' licences, sources and versions.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$root"
"$root/tools/setup.sh" --check
say "format"
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check
say "lints"
cargo clippy --locked --workspace --all-targets -- -D warnings
say "dependencies"
# Not `advisories`: their database is a repository that not every build machine can reach. Where yours can, run
# `cargo deny check advisories`; deny.toml holds the one exception.
cargo deny --locked check bans licenses sources
