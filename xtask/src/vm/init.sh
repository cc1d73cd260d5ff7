#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# The first process on the VM's disk: makes it a plain host with nothing but cgroup v2, and goes over to the tests.
export PATH=/bin:/sbin
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o ptmxmode=666,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
# No link: LXC wants to have none in the path where it mounts root file systems.
mount --bind /lib /usr/lib
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
# What LXC starts is confined by its own profile, as Debian has it.
[ ! -e /etc/apparmor.d/lxc-containers ] || apparmor_parser -r -K /etc/apparmor.d/lxc-containers
hostname -F /etc/hostname
ip link set lo up
chmod 1777 /tmp /var/tmp
# Some kernels have no xfs for it, some machines made none.
mount -t xfs -o prjquota /dev/vdb /data 2>/dev/null && export BERTH_TEST_XFS=/data
exec /vm/run
