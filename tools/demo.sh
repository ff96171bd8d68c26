#!/bin/bash
# The main job, to be watched: a real Debian boots in a VM with a volume and a network, runs commands, and is stopped.
# Everything it makes is in one temporary directory, which is gone afterwards. Needs `make build`; `make demo` does both.
set -euo pipefail
. "$(dirname "$0")/common.sh"

image=$("$root/tools/debian-root.sh")
lab=$(mktemp -d)
export FIRSTLIGHT_STATE_DIR=$lab/state
server=

host_ctl() { "$target/release/host-ctl" "$@"; }

# Shows a command as one would type it, then runs it.
show() {
    printf '\n$ host-ctl %s\n' "$*"
    host_ctl "$@"
}

clean_up() {
    host_ctl rm -f --ignore-not-found demo >/dev/null 2>&1 || true
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$lab"
}
trap clean_up EXIT

make_volume() {
    truncate --size 64M "$lab/volume.img"
    mkfs.ext4 -q -F "$lab/volume.img"
}

# A web server on the host's loopback, which QEMU's user network shows the guest as 10.0.2.2. Sets `port`.
start_server() {
    mkdir "$lab/web"
    echo "greetings from $(uname -n), kernel $(uname -r)" >"$lab/web/greeting"
    for port in $((20000 + RANDOM % 20000)) $((20000 + RANDOM % 20000)) $((20000 + RANDOM % 20000)); do
        busybox httpd -f -p "127.0.0.1:$port" -h "$lab/web" 2>/dev/null &
        server=$!
        # It ends at once when the port is taken.
        while kill -0 "$server" 2>/dev/null; do
            if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
        done
    done
    die "found no free port for the demo's web server"
}

boot() {
    say "a Debian boots: Initializing, then Running, as it happens"
    show run -d --name demo --memory 512M --rootfs "$image" --volume "$lab/volume.img:/data" --net user \
        --wait running -- sleep infinity
}

commands() {
    say "commands run in it"
    show exec demo -- sh -c '. /etc/os-release; echo "$PRETTY_NAME, kernel $(uname -r), boot $(cat /proc/sys/kernel/random/boot_id)"'
    show exec demo -- ip -brief address
    show exec demo -- bash -c "exec 3<>/dev/tcp/10.0.2.2/$port; printf 'GET /greeting HTTP/1.0\r\n\r\n' >&3; tail -n 1 <&3"
    show exec demo -- sh -c 'echo "written in the guest" >/data/note; df -h / /data'
}

timeline() {
    say "where the time went"
    show events demo
    show ps
}

stop() {
    say "it stops: the program, then the file systems, then the VM"
    show stop demo
    show ps -a
    printf '\non the host, from the volume: %s\n' "$(debugfs -R 'cat /note' "$lab/volume.img" 2>/dev/null)"
    show rm demo
}

# Processes that work in the demo's directory or name it, but for the web server.
own_processes() {
    local process
    for process in /proc/[0-9]*; do
        [ "${process#/proc/}" != "$server" ] || continue
        if [[ $(readlink "$process/cwd" 2>/dev/null) == "$lab"* ]] || grep -qs "$lab" "$process/cmdline"; then
            tr '\0' ' ' <"$process/cmdline" && echo
        fi
    done 2>/dev/null
}

# The demo's own claim, checked.
leave_nothing() {
    local left
    left=$(own_processes)
    [ -z "$left" ] || die "the demo left processes running:" "$left"
    left=$(find "$FIRSTLIGHT_STATE_DIR/vms" -mindepth 1 2>/dev/null || true)
    [ -z "$left" ] || die "the demo left files behind:" "$left"
    say "nothing is left running"
}

make_volume
start_server
boot
commands
timeline
stop
leave_nothing
