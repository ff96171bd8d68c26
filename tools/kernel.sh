#!/bin/bash
# Fetches the distribution's kernel for virtual machines with its modules, unless one is there: unpacked into the
# cache, never installed, and never a fixed version. To get a newer one, remove $cache/kernel.
#
#   $cache/kernel/RELEASE/{vmlinuz,config,lib/modules/RELEASE/}
#   $cache/kernel/current -> RELEASE
set -euo pipefail
. "$(dirname "$0")/common.sh"
. "$root/tools/apt.sh"

provide="set FIRSTLIGHT_KERNEL to a kernel with ext4, serial console and initramfs support, and FIRSTLIGHT_MODULES \
to its lib/modules/RELEASE directory"

check_own_kernel() {
    [ -r "${FIRSTLIGHT_KERNEL:-}" ] || die "FIRSTLIGHT_KERNEL is no readable file: ${FIRSTLIGHT_KERNEL:-(not set)}" \
        "$provide"
    [ -r "${FIRSTLIGHT_MODULES:-}/modules.dep" ] ||
        die "FIRSTLIGHT_MODULES has no modules.dep: ${FIRSTLIGHT_MODULES:-(not set)}" "$provide"
}

# What a package depends on, one name a line.
dependencies_of() {
    apt-cache show --no-all-versions "$1" 2>/dev/null |
        sed -n 's/^Depends: //p' | tr ',' '\n' | sed 's/^ *//; s/[ (|:].*//'
}

# The newest kernel's own package: what a meta package depends on. The leanest first, Debian's and then Ubuntu's.
kernel_package() {
    local meta
    for meta in "linux-image-cloud-$(dpkg --print-architecture)" linux-image-kvm linux-image-virtual; do
        dependencies_of "$meta" | grep -m 1 '^linux-image-[0-9]' && return
    done
    return 1
}

# Downloads the kernel's package, and the modules' where the distribution has one, and unpacks them into $1/root.
unpack() {
    local work=$1 archive packages
    mapfile -t packages < <(echo "$2" && dependencies_of "$2" | grep '^linux-modules-')
    mkdir "$work/packages" "$work/root"
    # apt would download as a user of its own, who may not write here.
    (cd "$work/packages" && apt-get -qq -o "APT::Sandbox::User=$(id -un)" download "${packages[@]}" >&2)
    for archive in "$work"/packages/*.deb; do
        dpkg-deb -x "$archive" "$work/root"
    done
}

# Arranges what was unpacked as the cache has it, in $1/kernel, and prints the release.
arrange() {
    local work=$1 release modules
    release=$(basename "$work"/root/boot/vmlinuz-*)
    release=${release#vmlinuz-}
    # Distributions with a merged /usr pack the modules below it.
    modules=$work/root/lib/modules/$release
    [ -d "$modules" ] || modules=$work/root/usr/lib/modules/$release
    mkdir -p "$work/kernel/lib/modules"
    mv "$work/root/boot/vmlinuz-$release" "$work/kernel/vmlinuz"
    mv "$work/root/boot/config-$release" "$work/kernel/config"
    mv "$modules" "$work/kernel/lib/modules/"
    depmod -b "$work/kernel" "$release"
    # Ubuntu's kernel packages are readable by root alone.
    chmod a+r "$work/kernel/vmlinuz"
    echo "$release"
}

main() {
    if [ -n "${FIRSTLIGHT_KERNEL:-}${FIRSTLIGHT_MODULES:-}" ]; then
        check_own_kernel
        return
    fi
    [ ! -e "$cache/kernel/current/vmlinuz" ] || return 0
    have apt-get || die "there is no kernel, and this is no Debian or Ubuntu to get one from" "$provide"

    # `work` is global: the trap runs when this function's own variables are gone.
    local package release
    package=$(kernel_package) || { update_lists && package=$(kernel_package); } ||
        die "apt knows no kernel for virtual machines (linux-image-cloud-*, linux-image-kvm, linux-image-virtual)" \
            "run: sudo apt-get update, then try again; or $provide"
    work=$(partial_directory "$cache/kernel")
    trap 'rm -rf "$work"' EXIT
    say "downloading $package"
    unpack "$work" "$package"
    release=$(arrange "$work")

    # Each step leaves either no kernel or a whole one.
    rm -rf "${cache:?}/kernel/$release"
    mv -T "$work/kernel" "$cache/kernel/$release"
    ln -s "$release" "$work/current"
    mv -T "$work/current" "$cache/kernel/current"
}

main
