# What the scripts in this directory share. To be sourced by bash with `set -euo pipefail`.

# Administrators' programs (mkfs.ext4, depmod) are not in every user's PATH; what set-up installs comes last, so that
# programs of the machine win.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${FIRSTLIGHT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/firstlight}
target=${CARGO_TARGET_DIR:-$root/target}
export PATH="$PATH:/usr/sbin:/sbin:$cache/tools/bin"

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'firstlight: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Makes a directory next to where its contents will be renamed to, so that an interrupted run leaves no half-made
# result under the real name. The caller removes it.
partial_directory() {
    mkdir -p "$1"
    mktemp -d "$1/.partial.XXXXXX"
}
