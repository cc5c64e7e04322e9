printf 'boot %s\n' "$B"
if [ -d /run/systemd/system ]; then echo 'init systemd'; fi
{ IFS= read -r l </proc/sys/kernel/hostname && printf 'hostname %s\n' "$l"; } 2>/dev/null
# The release comes first, in whatever order they are asked for.
l=$(uname -rm) && printf 'kernel %s\nmachine %s\n' "${l% *}" "${l##* }"
l=$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null) && printf 'cpus %s\n' "$l"
for x in /etc/os-release /usr/lib/os-release; do
	if [ -r "$x" ]; then
		while IFS= read -r l || [ -n "$l" ]; do
			case $l in PRETTY_NAME=* | VERSION_ID=*) printf 'os %s\n' "$l" ;; esac
		done <"$x"
		break
	fi
done
if [ -r /proc/meminfo ]; then
	while read -r l v x; do
		case $l in MemTotal:)
			printf 'memory %s\n' "$v"
			break
			;;
		esac
	done </proc/meminfo
fi
