#!/bin/sh
# The main job, as a person would type it: a disk, its server killed, the same disk brought back.
# Needs root, the ublk driver and fio. `npm start` runs it, in a guest where the host has no driver.
set -u
PATH="$(cd "$(dirname "$0")/../dist" && pwd):$PATH"
failed() { printf '\nThe demo failed: %s\n' "$1" >&2; exit 1; }
type_out() { printf '\n$ %s\n' "$*"; }
typed() { type_out "$@"; "$@" || failed "$*"; }
server_pid() { ublk-bun list "$1" | awk '/daemon pid/ { print $7 }'; }
state() { ublk-bun list "$1" | awk '/daemon pid/ { print $NF }'; }

printf 'Linux %s, ublk-bun %s\n' "$(uname -r)" "$(ublk-bun --version)"

typed ublk-bun add --target null -n 0 -q 2
pid=$(server_pid 0)

printf '\n# Real I/O in the background; it gives up at its first error.\n'
io="fio --name=io --filename=/dev/ublkb0 --rw=randrw --bs=4k --iodepth=32 --ioengine=libaio --direct=1"
io="$io --size=1g --io_size=128m --randrepeat=0 --eta=never --output=/run/demo-fio.txt"
type_out "$io &"
$io &
io_pid=$!

read_before=$(awk '{ print $1 }' /sys/block/ublkb0/stat)
while [ "$(awk '{ print $1 }' /sys/block/ublkb0/stat)" -lt $((read_before + 500)) ]; do sleep 0.05; done

typed kill -9 "$pid"
while [ "$(state 0)" = LIVE ]; do sleep 0.05; done
typed ublk-bun list 0
kill -0 $io_pid 2>/dev/null || failed "fio ended while its disk had no server"
printf '\n# No server, the disk is still there, and fio waits.\n'

typed ublk-bun recover 0
type_out wait
wait $io_pid || failed "fio saw an error"
printf '# fio ended with status 0: %s\n' "$(grep -o 'err= *[0-9]*' /run/demo-fio.txt)"

typed ublk-bun del 0
printf '\nNothing was lost.\n'
