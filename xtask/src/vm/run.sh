#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# Runs the list of test programs in /vm/list, one after the other, as the first process or as a unit of systemd. What it
# says about itself begins with "::vm ".
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb LANG=C USER=root
export BERTH_TEST_DISK=/dev/vdc
export BERTH_SKIPS=/run/skips
# Races are run where there is the time for them.
export BERTH_RACE_SECONDS=1
. /vm/environment
exec >/dev/vport0p1 2>&1 </dev/null
ulimit -n 65536

# A line of the list: a name, the limit in seconds, the folder to run in, the program, its arguments.
while read -r name limit folder program arguments; do
    : >$BERTH_SKIPS
    echo "::vm start $name"
    mkdir -p "$folder"
    cd "$folder" || cd /
    # shellcheck disable=SC2086 # arguments are words
    eval "timeout -s KILL $limit $program $arguments" </dev/null
    code=$?
    # Nobody is left from a program that had to be killed.
    [ $code -gt 128 ] && [ $$ -eq 1 ] && kill -9 -1
    sed 's/^/::vm skip /' <$BERTH_SKIPS
    echo "::vm end $code $name"
done </vm/list
echo "::vm done"
sync
if [ $$ -eq 1 ]; then
    poweroff -f
else
    systemctl poweroff -ff
fi
