#!/bin/bash
# Fetches the packages with the headers of the cached kernel, unless they are there, and prints their paths, a line
# each. They are for `host-ctl headers bundle` and are never installed.
#
#   $cache/kernel/RELEASE/headers/*.deb
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$root/tools/apt.sh"

# The headers' package and those of the kernel's that it depends on. It depends on the compiler too, which a bundle
# does not hold.
headers_packages() {
    echo "linux-headers-$1"
    apt-cache show --no-all-versions "linux-headers-$1" 2>/dev/null |
        sed -n 's/^Depends: //p' | tr ',' '\n' | sed 's/^ *//; s/[ (|:].*//' | grep -E '^linux-(headers|kbuild)-'
}

main() {
    [ -z "${FIRSTLIGHT_KERNEL:-}" ] || die "FIRSTLIGHT_KERNEL is set: its headers are not the distribution's" \
        "make a bundle of them with: host-ctl headers bundle --from BUILD-TREE"
    local release packages
    [ -e "$cache/kernel/current" ] || die "there is no kernel yet" "run: make setup"
    release=$(readlink "$cache/kernel/current")
    headers=$cache/kernel/$release/headers
    if [ ! -d "$headers" ]; then
        have apt-get || die "this is no Debian or Ubuntu to get the headers of $release from"
        apt-cache show "linux-headers-$release" >/dev/null 2>&1 || update_lists
        mapfile -t packages < <(headers_packages "$release")
        [ ${#packages[@]} -gt 1 ] || die "apt has no package linux-headers-$release any more" \
            "remove $cache/kernel and run: make setup, which fetches the newest kernel"
        say "downloading ${packages[*]}"
        # `work` is global: the trap runs when this function's own variables are gone.
        work=$(partial_directory "$cache/kernel")
        trap 'rm -rf "$work"' EXIT
        mkdir "$work/headers"
        # apt would download as a user of its own, who may not write here.
        (cd "$work/headers" && apt-get -qq -o "APT::Sandbox::User=$(id -un)" download "${packages[@]}" >&2) ||
            die "cannot download ${packages[*]}" "the messages above say why"
        # Two at once have downloaded the same: the first one's are as good.
        mv -T "$work/headers" "$headers" 2>/dev/null || [ -d "$headers" ]
    fi
    printf '%s\n' "$headers"/*.deb
}

main
