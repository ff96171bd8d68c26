# The distribution's package tools. To be sourced after common.sh.

# Runs a command as root; `can_be_root` says whether it may.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] || { have sudo && sudo -n true 2>/dev/null; }
}

# Fetches apt's lists anew. To be called only when something is missing.
update_lists() {
    can_be_root || return 0
    say "updating the package lists"
    # A broken third-party list must not stand in the way of the distribution's own.
    as_root apt-get -qq update >&2 || say "apt-get update had errors; going on with the lists there are"
}
