# enter DIR make|find: the working directory becomes DIR, one component at a
# time. Names relative to it cannot be led elsewhere by whoever owns a directory
# above. A symbolic link on the way must belong to root.
enter() {
	cd / || die "cannot enter /"
	rest=${1#/}
	while [ -n "$rest" ]; do
		c=${rest%%/*}
		case $rest in
		*/*) rest=${rest#*/} ;;
		*) rest= ;;
		esac
		to=${PWD%/}/$c
		if [ -L "./$c" ]; then
			[ "$(stat -c %u -- "./$c")" = 0 ] || die "$to is a symbolic link that does not belong to root"
			no_swap "$to"
			cd -P "./$c" || die "cannot enter $to"
			continue
		fi
		if [ ! -e "./$c" ]; then
			[ "$2" = make ] || return 1
			mkdir -m 0755 "./$c" || die "cannot make $to"
		fi
		cd -P "./$c" || die "cannot enter $to"
		[ "$PWD" = "$to" ] || die "$to was changed meanwhile"
	done
}
# no_swap PATH: others can exchange a link, whomever it belongs to, in a directory that is theirs or that they may write to.
no_swap() {
	set -- "$1" $(stat -c '%A %u' .)
	if [ "$3" = 0 ] || [ "$3" = "$(id -u)" ]; then
		case $2 in
		?????w???[!tT] | ????????w[!tT]) ;;
		*) return ;;
		esac
	fi
	die "$1 is a symbolic link in a directory that others may write to"
}
no_directory() {
	if [ -d "./$1" ] && [ ! -L "./$1" ]; then die "${PWD%/}/$1 is a directory"; fi
}
# digit TEXT: appends the six bits of the first character of TEXT to $v.
digit() {
	c=${1%"${1#?}"}
	if [ "$c" = = ]; then return 1; fi
	c=${A%%"$c"*}
	v=$((v * 64 + ${#c}))
}
# decode_here is for a host that has neither base64 nor openssl.
decode_here() {
	A=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/
	while IFS= read -r l; do
		out=
		while [ -n "$l" ]; do
			q=${l%"${l#????}"} l=${l#????} v=0
			digit "$q"
			digit "${q#?}"
			out=$out\\0$((v >> 10))$((v >> 7 & 7))$((v >> 4 & 7))
			digit "${q#??}" || break
			out=$out\\0$((v >> 8 & 3))$((v >> 5 & 7))$((v >> 2 & 7))
			digit "${q#???}" || break
			out=$out\\0$((v >> 6 & 3))$((v >> 3 & 7))$((v & 7))
		done
		printf %b "$out"
	done
}
decode() {
	if command -v base64 >/dev/null 2>&1; then
		base64 -d
	elif command -v openssl >/dev/null 2>&1; then
		openssl base64 -d
	else
		decode_here
	fi
}
# attributes NAME: what is not asked for is kept from the file that is there.
attributes() {
	if [ -f "./$1" ] && [ ! -L "./$1" ]; then
		kept=$(stat -c '%a %u %g' -- "./$1") || die "cannot look at ${PWD%/}/$1"
		set -- $kept
		mode=${mode:-$1} group=${group:-${3}}
		owner=${owner:-$2}
	fi
	mode=${mode:-644}
}
# own FILE: the owner is changed only where it must be, for it takes root.
own() {
	if [ -n "$owner$group" ]; then
		have=$(stat -L -c '%u %g' -- "$1") || die "cannot look at the new file"
		want=${owner:-${have% *}}:${group:-${have#* }}
		if [ "$want" != "${have% *}:${have#* }" ]; then chown -- "$want" "$1" || die "cannot give the file to $want"; fi
	fi
	chmod "$mode" "$1" || die "cannot set mode $mode"
}
# place TEMP NAME: rename(2) onto a name, and never into a directory.
place() {
	mv -fT -- "./$1" "./$2" 2>/dev/null && return
	if [ -L "./$2" ]; then rm -f -- "./$2"; fi
	no_directory "$2"
	mv -f -- "./$1" "./$2" || die "cannot rename to ${PWD%/}/$2"
}
# open_new NAME: the new file is opened once, exclusively; all that follows
# speaks of that open file, and not of a name that somebody else could give to another file.
open_new() {
	if [ -e "./$1" ] || [ -L "./$1" ]; then rm -f -- "./$1"; fi
	set -C
	# Without "command" a shell ends where this fails.
	{ command exec 9>"./$1"; } 2>/dev/null || die "cannot make a new file in $PWD: is the file system read-only?"
	set +C
	made=$1
}
# link_new BLOB NAME: staged content is the new file where it is on the same file system.
link_new() {
	rm -f -- "./$2"
	[ "$(stat -c %h "$1")" = 1 ] && ln -- "$1" "./$2" 2>/dev/null || return 1
	[ "./$2" -ef "$1" ] || return 1
	exec 9<"$1"
	made=$2
}
# deliver_file WRITE DIR NAME TEMP DIGEST MODE OWNER GROUP: WRITE is a command that
# writes the content into the file 9.
deliver_file() {
	write=$1
	shift
	enter "$1" make
	no_directory "$2"
	mode=$5 owner=$6 group=$7
	missent="what was written in $1 is not what was sent: is the disk full?"
	attributes "$2"
	[ -w . ] || die "user $(id -un) may not write in $1, or it is read-only"
	if [ "$write" = move ] && link_new "$b" "$3"; then
		write=:
	else
		open_new "$3"
	fi
	new=/proc/$$/fd/9
	if [ ! -e "$new" ]; then new=./$3; fi
	"$write" >&9 || die "cannot write the new file in $1: is the disk full?"
	sum=$(sha256sum <"$new") || die "cannot read the new file in $1"
	[ "${sum%% *}" = "$4" ] || die "$missent"
	own "$new"
	flush "$new"
	exec 9>&-
	place "$3" "$2"
	made=
	flush .
	if [ -e /sys/fs/selinux/enforce ] && command -v restorecon >/dev/null 2>&1; then restorecon -- "./$2"; fi
	cd /
}
# put_file DIR NAME TEMP DIGEST MODE OWNER GROUP, content on stdin.
put_file() {
	deliver_file decode "$@"
}
# place_file VERB, and what put_file takes: content that was staged, or that is in place already.
place_file() {
	verb=$1
	shift
	b=$S/blobs/$4
	if [ ! -f "$b" ]; then
		b=$1/$2
		[ -f "$b" ] && sum=$(sha256sum <"$b") && [ "${sum%% *}" = "$4" ] ||
			die "the content for $1/$2 is not staged on the host (any more)"
		verb=copy
	fi
	deliver_file "$verb" "$@"
	if [ "$verb" = move ]; then rm -f "$b"; fi
}
copy() {
	cat "$b"
}
move() {
	cat "$b"
}
# remove_file DIR NAME TEMP
remove_file() {
	enter "$1" find || return 0
	no_directory "$2"
	rm -f -- "./$3" "./$2" || die "cannot remove $1/$2"
	flush .
	cd /
}
