look() {
	stat -c '%f|%d|%i|%s|%y|%z|%u|%g|%a|%U|%G' -- "$@" 2>/dev/null
}
# missing NUMBER PATH: only the words for ENOENT and ENOTDIR say that a file is absent.
missing() {
	e=$(stat -c %f -- "$2" 2>&1) && e='it was changed meanwhile'
	case $e in
	*'No such file or directory' | *'Not a directory') printf 'a %s\n' "$1" ;;
	*) problem "$1" "$e" ;;
	esac
}
# known NUMBER LINE: whether the digest for this very line is known already.
known() {
	eval "[ \"\$2\" = \"\$k$1\" ]"
}
# one NUMBER LINE: tells what is there, and sets $hash if the content must be read.
one() {
	hash=
	printf 'f %s %s\n' "$1" "$2"
	case $2 in
	8*) ;;
	*) return ;;
	esac
	if known "$1" "$2"; then return; fi
	size=${2#*|*|*|}
	size=${size%%|*}
	if [ "$size" -gt "$L" ]; then
		printf 'p %s TooLarge\n' "$1"
	elif [ ! -r "$p" ]; then
		printf 'p %s AccessDenied\n' "$1"
	else
		hash=1
	fi
}
# one_by_one: when fewer lines than files came back, for one has just gone. What was said is
# withdrawn by an r.
one_by_one() {
	for i in $there; do
		eval "p=\$p$i"
		if l=$(look "$p"); then
			one "$i" "$l"
			if [ -n "$hash" ]; then read_file; fi
		else
			missing "$i" "$p"
		fi
	done
}
read_file() {
	if e=$(sha256sum <"$p" 2>/dev/null); then
		printf 'h %s %s\n' "$i" "${e%% *}"
	fi
}
# files COUNT: the files $p0 ... with what was known of them, $k0 ...
files() {
	i=0
	there=
	while [ "$i" -lt "$1" ]; do
		eval "p=\$p$i"
		if [ -e "$p" ] || [ -L "$p" ]; then there="$there $i"; else missing "$i" "$p"; fi
		i=$((i + 1))
	done
	set --
	for i in $there; do
		eval "set -- \"\$@\" \"\$p$i\""
	done
	if [ $# -eq 0 ]; then return; fi
	lines=$(look "$@")
	if ! digests; then
		printf 'r\n'
		one_by_one
	fi
}
# digests reads the files that need it, as many as possible in one process. It
# fails when there are fewer lines than files.
digests() {
	set --
	{
		for i in $there; do
			IFS= read -r l && [ -n "$l" ] || return 1
			eval "p=\$p$i"
			one "$i" "$l"
			if [ -z "$hash" ]; then continue; fi
			case $O in
			*" $i "*) read_file ;;
			*) set -- "$@" "$p" ;;
			esac
		done
	} <<EOF_LINES
$lines
EOF_LINES
	if [ $# -gt 0 ]; then sha256sum -- "$@" 2>/dev/null; fi
	return 0
}
