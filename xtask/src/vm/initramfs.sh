#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# From the kernel to the disk. Whatever fails ends init, and so the VM, by a panic that the console shows.
set -e
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev
while read -r module; do
    $B insmod "/modules/$module"
done </modules/order
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 50 ]; do
    tries=$((tries + 1))
    $B sleep 0.1
done
$B mount -t ext4 -o noatime /dev/vda /root
$B mount -o move /dev /root/dev
$B mount -o move /proc /root/proc
$B mount -o move /sys /root/sys
init=/vm/init
for word in $($B cat /root/proc/cmdline); do
    case $word in berth.init=*) init=${word#berth.init=} ;; esac
done
exec $B switch_root /root "$init"
