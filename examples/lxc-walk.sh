#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# LXC's walk, with berth's commands and LXC's own in turn, on the same containers: each sees what the other did. Needs root,
# LXC and busybox-static. Containers are made in a directory of their own, which is removed at the end.
#
#     examples/lxc-walk.sh [BERTH]
set -eu

berth=${1:-berth}
path=$(mktemp -d "${TMPDIR:-/tmp}/berth-lxc-walk.XXXXXX")
chmod 711 "$path"
name=walk$$
step=0

clean() {
    for one in "$name-snap" "$name-clone" "$name-users" "$name"; do
        lxc-destroy -P "$path" -n "$one" -f >/dev/null 2>&1 || :
    done
    rm -rf "$path"
}
trap clean EXIT

say() { step=$((step + 1)); printf '%2d  %s\n' "$step" "$*"; }
fail() { printf 'lxc-walk: %s\n' "$*" >&2; exit 1; }
# Both sides have to say the same.
state() {
    [ "$(lxc-info -P "$path" -n "$1" -sH)" = "$2" ] || fail "lxc-info does not say that $1 is $2"
    "$berth" lxc info -P "$path" -o json "$1" | grep -q "\"state\":\"$2\"" || fail "berth does not say that $1 is $2"
}

printf 'lxc.net.0.type = empty\n' >"$path/empty.conf"

say "berth makes $name from the template busybox"
"$berth" lxc create -P "$path" -t busybox -n "$name" -f "$path/empty.conf" >/dev/null
lxc-ls -P "$path" -1 | grep -qx "$name" || fail "lxc-ls does not see it"
state "$name" STOPPED

say "LXC starts it"
lxc-start -P "$path" -n "$name"
state "$name" RUNNING

say "berth runs a command in it, and tells its exit code"
code=0
"$berth" lxc attach -P "$path" -n "$name" -- sh -c 'echo by-berth >/mark; exit 7' || code=$?
[ "$code" = 7 ] || fail "the exit code is $code, and not 7"
[ "$(lxc-attach -P "$path" -n "$name" -- cat /mark)" = by-berth ] || fail "lxc-attach does not see the file"

say "LXC freezes it, berth lets it go on"
lxc-freeze -P "$path" -n "$name"
state "$name" FROZEN
"$berth" lxc unfreeze -P "$path" "$name"
state "$name" RUNNING

say "berth freezes it, LXC lets it go on"
"$berth" lxc freeze -P "$path" "$name"
state "$name" FROZEN
lxc-unfreeze -P "$path" -n "$name"
state "$name" RUNNING

say "berth stops it"
"$berth" lxc stop -P "$path" -t 10 "$name"
state "$name" STOPPED

say "berth makes a snapshot of it, LXC starts that"
"$berth" lxc copy -P "$path" -n "$name" -N "$name-snap" -s
lxc-start -P "$path" -n "$name-snap"
[ "$(lxc-attach -P "$path" -n "$name-snap" -- cat /mark)" = by-berth ] || fail "the snapshot has not the file"
"$berth" lxc stop -P "$path" -k "$name-snap"

say "LXC makes a clone of it, berth starts and stops that"
lxc-copy -P "$path" -n "$name" -N "$name-clone"
"$berth" lxc start -P "$path" "$name-clone"
state "$name-clone" RUNNING
"$berth" lxc ls -P "$path" --running -1 | grep -qx "$name-clone" || fail "berth does not list the clone"
lxc-stop -P "$path" -n "$name-clone" -k
state "$name-clone" STOPPED

say "a second of the name, and one that is not there: refused by both"
code=0
"$berth" lxc create -P "$path" -t busybox -n "$name" >/dev/null 2>&1 || code=$?
[ "$code" = 1 ] || fail "a second $name: exit code $code"
code=0
"$berth" lxc destroy -P "$path" "$name-nobody" >/dev/null 2>&1 || code=$?
[ "$code" = 1 ] || fail "no such container: exit code $code"

say "a start without its bridge says which"
sed -e 's/^lxc.net.0.type.*/lxc.net.0.type = veth/' -e '$a lxc.net.0.link = walk-none' "$path/$name/config" >"$path/veth.conf"
if "$berth" lxc start -P "$path" -f "$path/veth.conf" "$name" 2>"$path/words"; then fail "it started"; fi
grep -q 'bridge walk-none' "$path/words" || fail "it does not say which: $(cat "$path/words")"

say "berth makes one whose root is not the host's root"
users=200000
printf 'root:%s:65536\n' "$users" >"$path/subid"
cat >"$path/users.sh" <<'EOF'
set -eu
mount --make-rprivate /
mount --bind "$2/subid" /etc/subuid
mount --bind "$2/subid" /etc/subgid
"$1" lxc create -P "$2" -t busybox -n "$3" -f "$2/empty.conf" --unprivileged >/dev/null
lxc-start -P "$2" -n "$3"
pid=$(lxc-info -P "$2" -n "$3" -pH)
read -r inside outside count <"/proc/$pid/uid_map"
[ "$inside $outside $count" = "0 $4 65536" ] || { echo "users are mapped $inside $outside $count" >&2; exit 1; }
"$1" lxc attach -P "$2" -n "$3" -- touch /mark
owner=$(stat -c %u "$2/$3/rootfs/mark")
[ "$owner" = "$4" ] || { echo "its root's file belongs to $owner outside" >&2; exit 1; }
"$1" lxc destroy -P "$2" -f "$3"
EOF
unshare -m sh "$path/users.sh" "$berth" "$path" "$name-users" "$users" || fail "an unprivileged container"

say "berth and LXC remove what the other made"
"$berth" lxc destroy -P "$path" "$name-clone"
lxc-destroy -P "$path" -n "$name-snap" >/dev/null
"$berth" lxc destroy -P "$path" "$name"
[ -z "$("$berth" lxc ls -P "$path" -1)" ] || fail "something is left"
[ -z "$(lxc-ls -P "$path" -1)" ] || fail "something is left"
echo "lxc-walk: all is as it should be"
