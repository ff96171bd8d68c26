#!/bin/bash
# Installs the distribution's packages that are missing, told by what they bring.
#
#   tools/packages.sh            for `make demo` and `make test`
#   tools/packages.sh --bench    those alone that `make bench` needs besides
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$root/tools/apt.sh"

# program package
programs="
qemu-system-x86_64  qemu-system-x86
qemu-img            qemu-utils
busybox             busybox-static
mmdebstrap          mmdebstrap
gpg                 gpg
mkfs.ext4           e2fsprogs
mkfs.erofs          erofs-utils
mksquashfs          squashfs-tools
depmod              kmod
tar                 tar
cc                  gcc
c++                 g++
"
# Without root, only with these does an image keep its files' owners.
[ "$(id -u)" = 0 ] || programs+="
fakeroot            fakeroot
newuidmap           uidmap
"

# What the benchmark compares with, and the network it reaches it by.
rivals="
ssh                 openssh-client
rsync               rsync
ip                  iproute2
"

# A root file system that is one busybox has no libraries.
static_busybox() {
    have busybox && ! LC_ALL=C ldd "$(command -v busybox)" 2>/dev/null | grep -q '=>'
}

# `cc` answers with the bare name when it finds no such file.
static_libc() {
    have cc && [ "$(cc -print-file-name=libc.a)" != libc.a ]
}

# A test steps the host's clock back under a process.
faketime_library() {
    compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null
}

debian_keyring() {
    compgen -G '/usr/share/keyrings/debian-archive-keyring.*' >/dev/null
}

# The packages of the table $1 that bring what is not there.
missing_of() {
    local program package
    while read -r program package; do
        [ -z "$program" ] || have "$program" || echo "$package"
    done <<<"$1"
}

missing_packages() {
    if [ "$purpose" = --bench ]; then
        missing_of "$rivals"
        return
    fi
    missing_of "$programs"
    static_busybox || echo busybox-static
    static_libc || echo libc6-dev
    faketime_library || echo libfaketime
    debian_keyring || echo debian-archive-keyring
}

install_packages() {
    say "installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >&2 ||
        die "apt-get could not install $*; above is why" \
            "where it speaks of versions, one from another release is in the way: remove it, then try again"
    hash -r
}

main() {
    # `missing_packages` reads the purpose.
    local missing purpose=${1:-}
    mapfile -t missing < <(missing_packages | sort -u)
    [ ${#missing[@]} -gt 0 ] || return 0
    have apt-get || die "this is no Debian or Ubuntu, and what these packages (Debian's names) bring is missing:" \
        "${missing[*]}" "install the same with this distribution's tools, then try again"
    can_be_root || die "packages are missing, and installing them needs root:" \
        "run: sudo apt-get install --no-install-recommends ${missing[*]}" "then try again"

    update_lists
    # Installing one may remove another that is there in a version which does not go with it, as `qemu-utils` of backports does
    # not with Debian's QEMU. The second round installs the one that does.
    for _ in 1 2; do
        install_packages "${missing[@]}"
        mapfile -t missing < <(missing_packages | sort -u)
        [ ${#missing[@]} -gt 0 ] || return 0
    done
    die "these packages were installed, and what they should bring is still missing:" "${missing[*]}"
}

main "$@"
