# Waits for the end of the owner (end of file on stdin), then undoes the journal $1 backwards. Log: $2.
# Exit status: 0 if all was undone, 1 if something was left behind.
trap '' INT TERM HUP
cat >/dev/null
exec >>"$2" 2>&1
left=0

# same PID START: the process is there, is the one recorded, and is not a zombie that only waits to be reaped.
same() {
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	stat=${stat##*) }
	set -- $1 $2 $stat
	[ "$3" != Z ] && [ "${22}" = "$2" ]
}

# end PID START GRACE: TERM, GRACE tenths of a second, KILL, five seconds to vanish.
end() {
	same "$1" "$2" || return 0
	n=$3
	[ "$n" -gt 0 ] && kill -TERM "$1"
	while [ "$n" -gt 0 ]; do
		same "$1" "$2" || return 0
		sleep 0.1
		n=$((n - 1))
	done
	kill -KILL "$1"
	n=50
	while same "$1" "$2"; do
		[ "$n" -gt 0 ] || return 1
		sleep 0.1
		n=$((n - 1))
	done
}

# unmount PATH: all mounts at and below it, deepest first.
unmount() {
	awk -v p="$1" '$5 == p || index($5, p "/") == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r m; do
		umount "$m" 2>/dev/null || { sleep 0.5; umount "$m" || umount -l "$m"; }
	done
	! awk -v p="$1" '$5 == p { f = 1 } END { exit !f }' /proc/self/mountinfo
}

# prune PATH: processes in the control group, then its directories, deepest first.
prune() {
	[ -d "$1" ] || return 0
	find "$1" -name cgroup.procs -exec cat {} + | while read -r p; do kill -KILL "$p"; done
	n=20
	while [ "$n" -gt 0 ]; do
		find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
		[ -d "$1" ] || return 0
		sleep 0.1
		n=$((n - 1))
	done
	return 1
}

empty() {
	[ -e "/var/run/netns/$1" ] || return 0
	ip netns pids "$1" | while read -r p; do kill -KILL "$p"; done
	ip netns delete "$1"
}

tab=$(printf '\t')
tac "$1" >"$1.reversed"
while IFS="$tab" read -r kind a b; do
	case $kind in
	process) end "$a" "$b" 100 ;;
	kill) end "$a" "$b" 0 ;;
	mount) unmount "$a" ;;
	link) [ ! -e "/sys/class/net/$a" ] || ip link delete "$a" ;;
	netns) empty "$a" ;;
	table) ! nft list table "$a" "$b" >/dev/null 2>&1 || nft delete table "$a" "$b" ;;
	cgroup) prune "$a" ;;
	remove) rm -rf --one-file-system -- "$a" ;;
	*) false ;;
	esac || { left=1; echo "left behind: $kind $a $b"; }
done <"$1.reversed"
exit "$left"
