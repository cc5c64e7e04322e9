#!/bin/sh
# What a machine that shares its kernel with others needs before it can run containers.
set -e
[ -e /dev/kmsg ] || mknod /dev/kmsg c 1 11
# systemd-nspawn shows legacy control group hierarchies read-only.
awk '$(NF-2) == "cgroup" { print $5 }' /proc/self/mountinfo | while read -r hierarchy; do
	mount -o remount,rw,bind "$hierarchy"
done
sysctl -q -w net.ipv4.ip_forward=1
nft -f /etc/isthmus/masquerade.nft
