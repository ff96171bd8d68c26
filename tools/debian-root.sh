#!/bin/bash
# Makes a Debian root file system as an ext4 image in the cache, unless it is there, and prints its path.
#
#   tools/debian-root.sh [--compiler] [SUITE]     default: this Debian's own, or Debian stable elsewhere
#
# With --compiler the image can build kernel modules against headers.
set -euo pipefail
. "$(dirname "$0")/common.sh"

packages=iproute2
# Beside the compiler: objtool of a kernel's headers is linked to libelf, and insmod is kmod's.
compiler_packages=gcc,make,libc6-dev,libelf1,kmod
# Sparse: an image holds what it is filled with.
size=2G

this_suite() {
    . /etc/os-release
    if [ "${ID:-}" = debian ] && [ -n "${VERSION_CODENAME:-}" ]; then
        echo "$VERSION_CODENAME"
    else
        echo stable
    fi
}

# The archive this machine itself uses, if it is Debian's and has the suite; else nothing, and mmdebstrap knows one.
mirror_for() {
    have apt-get || return 0
    apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -v suite="$1" '$1 == "Debian" && $2 == suite && $3 == "main" { print $4; exit }'
}

# Chained by hand: the caller tests the result, and bash ignores `set -e` there.
make_image() {
    local suite=$1 work=$2 mirror owner=()
    mirror=$(mirror_for "$suite")
    # Without root, fakeroot remembers the owners that extracting would have given.
    [ "$(id -u)" = 0 ] || owner=(fakeroot)
    mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$work/root.tar" ${mirror:+"$mirror"} >&2 &&
        mkdir -m 755 "$work/root" &&
        "${owner[@]}" sh -euc '
            tar --extract --numeric-owner --preserve-permissions --xattrs --file "$1/root.tar" --directory "$1/root"
            truncate --size "$2" "$1/image"
            mkfs.ext4 -q -F -L root -d "$1/root" "$1/image"
        ' sh "$work" "$size" >&2
}

main() {
    # `work` is global: the trap runs when this function's own variables are gone.
    local suite image variant=
    if [ "${1:-}" = --compiler ]; then
        variant=-compiler
        packages+=,$compiler_packages
        shift
    fi
    suite=${1:-$(this_suite)}
    image=$cache/rootfs/debian-$suite$variant.ext4
    mkdir -p "$cache/rootfs"
    exec 9>"$cache/rootfs/lock"
    flock --wait 1800 9 || die "another process has been making a root file system for half an hour" \
        "end the holder of $cache/rootfs/lock, then try again"
    # What the image was made of is kept beside it: an image of an older recipe is made anew.
    if [ ! -e "$image" ] || [ "$(cat "$image.recipe" 2>/dev/null)" != "$packages $size" ]; then
        say "making a Debian $suite$variant root file system (once; about half a minute)"
        work=$(partial_directory "$cache/rootfs")
        trap 'rm -rf "$work"' EXIT
        make_image "$suite" "$work" || die "cannot make a Debian $suite root file system" \
            "the messages above say why; it needs mmdebstrap and Debian's package archive"
        mv -T "$work/image" "$image"
        echo "$packages $size" >"$image.recipe"
    fi
    echo "$image"
}

main "$@"
