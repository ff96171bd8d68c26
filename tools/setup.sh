#!/bin/bash
# Installs what building, testing and running Firstlight need, and nothing that is there already: the second run
# needs no network. Everything but the distribution's packages goes to the cache directory.
#
#   tools/setup.sh            for `make demo` and `make test`
#   tools/setup.sh --check    what `make check` needs as well
#
# FIRSTLIGHT_CACHE     where downloads are kept; default $XDG_CACHE_HOME/firstlight
# FIRSTLIGHT_KERNEL    a kernel to use instead of the distribution's, with
# FIRSTLIGHT_MODULES   its lib/modules/RELEASE directory
set -euo pipefail
. "$(dirname "$0")/common.sh"

# Installs a crate that is a program into the cache, where the machine has no such program.
install_crate() {
    local crate=$1 version=$2 duration=$3
    ! have "$crate" || return 0
    say "installing $crate from the crates registry (once; $duration)"
    # Flags meant for this project's own build must not reach another's.
    env -u RUSTFLAGS -u CARGO_TARGET_DIR -u CARGO_BUILD_TARGET \
        cargo install --quiet --locked --root "$cache/tools" --version "$version" "$crate" ||
        die "cannot install $crate" "provide a program \`$crate\` in PATH, or let cargo reach its registry"
}

main() {
    have cargo || die "there is no Rust toolchain" "install version 1.95 or later, then try again"
    mkdir -p "$cache"
    # Two set-ups at once would install the same twice; the second waits, and then finds all done. Descriptor 9 is
    # closed for what is started below, so that nothing left running can hold the lock.
    exec 9>"$cache/setup.lock"
    flock --wait 1800 9 || die "another set-up has held $cache/setup.lock for half an hour" "end it, then try again"

    "$root/tools/packages.sh" 9>&-
    "$root/tools/kernel.sh" 9>&-
    # The kernel's own vsock serves where there is one.
    [ -e /dev/vhost-vsock ] || install_crate vhost-device-vsock '^0.3' "about a minute" 9>&-
    if [ "${1:-}" = --check ]; then
        install_crate cargo-deny '^0.20' "some five minutes" 9>&-
    fi
}

main "$@"
