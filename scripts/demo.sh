#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What `make run` runs inside a container: what a process there sees of itself and of the host.
first() { for file in "$@"; do [ -r "$file" ] && { tr '\n' ' ' <"$file"; return; }; done; echo "(not here)"; }
cgroup=/sys/fs/cgroup
set -- /proc/[0-9]*
echo "my pid              $$ (of $# processes in sight)"
echo "my host name        $(cat /proc/sys/kernel/hostname)"
echo "my mounts           $(grep -c . /proc/self/mounts), /proc: $(grep -c ' /proc[ /]' /proc/self/mounts) of them"
echo "my memory limit     $(first $cgroup/memory/memory.limit_in_bytes $cgroup/memory.max)"
echo "my cpu quota        $(first $cgroup/cpu/cpu.cfs_quota_us $cgroup/cpu.max)"
echo "my process limit    $(first $cgroup/pids/pids.max $cgroup/pids.max)"
echo "my descriptors      $(cd /proc/self/fd && echo *)"
grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | while read -r name value; do
    printf '%-19s %s\n' "my ${name%:}" "$value"
done
