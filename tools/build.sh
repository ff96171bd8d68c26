#!/bin/bash
# Builds the host's programs, and the guest's beside them, where host-ctl looks for them.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$root"

# The guest's programs are static: an image need not have a libc. Linked to one address they are some 57 KB smaller each
# and need no relocation at their start (docs/decisions/0014-headers.md); 135 KB smaller without unwinding tables and
# their index, for which programs that abort have no use, and 6 KB with equal functions folded. Constants are mapped
# with the text, as one, and there is room beneath the program for its threads' stacks: the kernel finds its way about the
# least when a process has few ranges of addresses. Naming the target keeps the flags away from build scripts and
# macros, which cannot be static.
triple=$(rustc -vV | sed -n 's/^host: //p')
say "building the guest's programs"
flags="-C target-feature=+crt-static -C relocation-model=static"
flags+=" -C link-arg=-Wl,--no-eh-frame-hdr -C link-arg=-Wl,-T,tools/guest.ld -C link-arg=-Wl,--icf=all -C link-arg=-Wl,-O2"
flags+=" -C link-arg=-Wl,--no-rosegment -C link-arg=-Wl,--image-base=0x10000000"
build() { RUSTFLAGS="${RUSTFLAGS:-} $flags $3" cargo build --locked --profile "$2" --target "$triple" -p "firstlight-$1"; }
# Init hashes a few lines, where a loop written out is code that runs once; the agent hashes files.
build guest-init guest-init '--cfg sha2_backend_soft="compact"'
build guest-agent guest ""
say "building the host's programs"
cargo build --locked --release -p firstlight-host-ctl -p firstlight-initramfs

for built in guest-init/guest-init guest/guest-agent; do
    program=${built#*/}
    # Renamed into place: a VM that is just starting reads the old program or the new one.
    cp "$target/$triple/$built" "$target/release/.$program.new"
    mv -T "$target/release/.$program.new" "$target/release/$program"
done
say "built ${target#"$PWD"/}/release/host-ctl"
