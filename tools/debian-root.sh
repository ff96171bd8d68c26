#!/bin/bash
# Makes a Debian root file system as an ext4 image in the cache, unless it is there, and prints its path.
#
#   tools/debian-root.sh [VARIANT [SUITE]]     default: plain, of this Debian's own suite, or of stable elsewhere
#
# Variants:
#   plain      no init of its own
#   compiler   what building kernel modules against headers takes
#   systemd    systemd alone: no udev, no D-Bus, no getty that could work
#   networkd   systemd with udev, D-Bus and a networkd that would take every interface over
#   bootable   systemd with the distribution's kernel and an initrd by initramfs-tools
#   rivals     what the benchmark compares host-ctl with: servers for ssh, scp and rsync, and QEMU's guest agent
set -euo pipefail
. "$(dirname "$0")/common.sh"

# Raised when an image has to be made anew though its packages are the same.
recipe=1
# Sparse: an image holds what it is filled with.
size=2G

# What a variant installs besides the minimal base.
packages_of() {
    case $1 in
        plain) echo iproute2 ;;
        # Beside the compiler: objtool of a kernel's headers is linked to libelf, and insmod is kmod's.
        compiler) echo iproute2,gcc,make,libc6-dev,libelf1,kmod ;;
        systemd) echo iproute2,systemd,systemd-sysv ;;
        networkd) echo iproute2,systemd,systemd-sysv,udev,dbus ;;
        bootable) echo "iproute2,systemd,systemd-sysv,udev,initramfs-tools,linux-image-cloud-$(dpkg --print-architecture)" ;;
        # kmod: the guest agent's channel needs a kernel module that nothing of ours does.
        rivals) echo iproute2,kmod,openssh-server,rsync,qemu-guest-agent ;;
        *) die "there is no variant $1" "there are plain, compiler, systemd, networkd, bootable and rivals" ;;
    esac
}

# What a variant does in the root once its packages are there, as a script with the root as its argument.
customize() {
    case $1 in
        networkd) cat <<'END'
printf '[Match]\nType=ether\n[Network]\nDHCP=yes\n' >"$1/etc/systemd/network/50-everything.network"
chroot "$1" systemctl enable --quiet systemd-networkd
END
            ;;
    esac
}

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
    local suite=$1 variant=$2 packages=$3 work=$4 mirror owner=()
    mirror=$(mirror_for "$suite")
    # Without root, fakeroot remembers the owners that extracting would have given.
    [ "$(id -u)" = 0 ] || owner=(fakeroot)
    { echo "set -eu" && customize "$variant"; } >"$work/customize" &&
        mmdebstrap --quiet --variant=minbase --include="$packages" --customize-hook="sh '$work/customize' \"\$1\"" \
            "$suite" "$work/root.tar" ${mirror:+"$mirror"} >&2 &&
        mkdir -m 755 "$work/root" &&
        "${owner[@]}" sh -euc '
            tar --extract --numeric-owner --preserve-permissions --xattrs --file "$1/root.tar" --directory "$1/root"
            truncate --size "$2" "$1/image"
            mkfs.ext4 -q -F -L root -d "$1/root" "$1/image"
        ' sh "$work" "$size" >&2
}

main() {
    # `work` is global: the trap runs when this function's own variables are gone.
    local variant=${1:-plain} suite=${2:-$(this_suite)} image packages made_of
    packages=$(packages_of "$variant")
    made_of="$packages $size $recipe"
    image=$cache/rootfs/debian-$suite-$variant.ext4
    mkdir -p "$cache/rootfs"
    exec 9>"$cache/rootfs/lock"
    flock --wait 1800 9 || die "another process has been making a root file system for half an hour" \
        "end the holder of $cache/rootfs/lock, then try again"
    # What the image was made of is kept beside it: an image of an older recipe is made anew.
    if [ ! -e "$image" ] || [ "$(cat "$image.recipe" 2>/dev/null)" != "$made_of" ]; then
        say "making a Debian $suite root file system, $variant (once; about half a minute)"
        work=$(partial_directory "$cache/rootfs")
        trap 'rm -rf "$work"' EXIT
        make_image "$suite" "$variant" "$packages" "$work" || die "cannot make a Debian $suite root file system" \
            "the messages above say why; it needs mmdebstrap and Debian's package archive"
        mv -T "$work/image" "$image"
        echo "$made_of" >"$image.recipe"
    fi
    echo "$image"
}

main "$@"
