#!/bin/bash
# Fuzzes for TIME seconds in all (60 unless given); TARGET picks one of fuzz/targets. What it learns stays in the cache, so the
# next run goes on from there; an input that breaks something is kept beside what was built.
#
# libFuzzer needs no nightly compiler: the coverage it wants comes from a pass of LLVM's own. Each target runs in a jail, a root
# directory with nothing but itself in it and without a network, because an agent does what it is told.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$root"

seconds=${TIME:-60}
read -ra targets <<<"${TARGET:-archive connect frames messages multiplex session tree}"
triple=$(rustc -vV | sed -n 's/^host: //p')
built=$target/fuzz
log=$built/log

build() {
    local flags=(-C passes=sancov-module) option
    for option in level=4 trace-compares inline-8bit-counters pc-table; do
        flags+=(-C "llvm-args=-sanitizer-coverage-$option")
    done
    RUSTFLAGS="${flags[*]}" cargo build --quiet --locked --release --manifest-path fuzz/Cargo.toml \
        --target "$triple" --target-dir "$built"
}

# Runs $1 for $2 seconds.
fuzz() {
    local corpus=$cache/fuzz/$1
    rm -rf "${jail:?}"/* && mkdir -p "$jail"/{corpus,found,tmp,dev,proc} "$corpus"
    cp "$built/$triple/release/$1" "$jail/target"
    ldd "$jail/target" | grep -o '/[^ ]*' | xargs -I{} cp --parents -L {} "$jail"
    cp -r "$corpus/." "$jail/corpus"
    say "fuzzing $1 for $2 s"
    if ! unshare --map-root-user --net --pid --fork --kill-child chroot "$jail" /target -max_total_time="$2" \
        -max_len=4096 -timeout=30 -rss_limit_mb=512 -artifact_prefix=/found/ -print_final_stats=1 /corpus >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        mkdir -p "$built/found" && cp -r "$jail/found/." "$built/found"
        die "fuzzing $1 found something" "the input is in $built/found"
    fi
    say "$(sed -n 's/^stat::number_of_executed_units: */inputs tried: /p' "$log")"
    cp -r "$jail/corpus/." "$corpus"
}

build
jail=$(mktemp -d)
trap 'rm -rf "$jail"' EXIT
for name in "${targets[@]}"; do
    fuzz "$name" $((seconds / ${#targets[@]}))
done
