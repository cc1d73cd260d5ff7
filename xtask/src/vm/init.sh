#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The first process on the VM's disk: a plain host with nothing but cgroup v2, on which it runs the list of test
# programs in /vm/list, one after the other. What it says about itself begins with "::vm ".
export PATH=/bin:/sbin HOME=/root TERM=dumb LANG=C USER=root
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o ptmxmode=666,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
hostname -F /etc/hostname
ip link set lo up
chmod 1777 /tmp /var/tmp
# Some kernels have no xfs for it, some machines made none.
mount -t xfs -o prjquota /dev/vdb /data 2>/dev/null && export BERTH_TEST_XFS=/data
export BERTH_TEST_DISK=/dev/vdc
export BERTH_SKIPS=/run/skips BERTH_TEST_SLOW=10
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
    eval "timeout -s KILL $limit $program $arguments"
    code=$?
    # Nobody is left from a program that had to be killed.
    [ $code -gt 128 ] && kill -9 -1
    sed 's/^/::vm skip /' <$BERTH_SKIPS
    echo "::vm end $code $name"
done </vm/list
echo "::vm done"
sync
poweroff -f
