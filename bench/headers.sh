#!/bin/bash
# Puts the kernel headers that the distribution packages for a kernel release into a tar archive.
#
#   bench/headers.sh RELEASE ARCHIVE
set -euo pipefail
release=$1 archive=$2
command -v apt-get >/dev/null || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=${FIRSTLIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/firstlight}/bench
kept=$cache/headers-$release.tar

# The package for one kernel is little but links; the headers themselves are in the one for its whole version.
download() {
    local package=linux-headers-$release common
    common=$(apt-cache depends "$package" | sed -n 's/^ *Depends: \(linux-headers-.*common.*\)/\1/p' | head -n 1)
    # apt would download as a user of its own, who may not write here.
    (cd "$work" && apt-get -qq -o "APT::Sandbox::User=$(id -un)" download "$package" ${common:+"$common"}) >&2
}

if [ ! -e "$kept" ]; then
    download
    mkdir -p "$work/root" "$cache"
    for package in "$work"/*.deb; do
        dpkg-deb -x "$package" "$work/root"
    done
    tar --create --file "$work/headers.tar" --directory "$work/root/usr" src
    mv "$work/headers.tar" "$kept"
fi
cp "$kept" "$archive"
