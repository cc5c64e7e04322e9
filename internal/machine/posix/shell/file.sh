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
	have=$(stat -L -c '%u %g' -- "$1") || die "cannot look at the new file"
	want=${owner:-${have% *}}:${group:-${have#* }}
	if [ "$want" != "${have% *}:${have#* }" ]; then chown -- "$want" "$1" || die "cannot give the file to $want"; fi
	chmod "$mode" "$1" || die "cannot set mode $mode"
}
# place TEMP NAME: rename(2) onto a name, and never into a directory.
place() {
	mv -fT -- "./$1" "./$2" 2>/dev/null && return
	if [ -L "./$2" ]; then rm -f -- "./$2"; fi
	no_directory "$2"
	mv -f -- "./$1" "./$2" || die "cannot rename to ${PWD%/}/$2"
}
# put_file DIR NAME TEMP DIGEST MODE OWNER GROUP, content on stdin. The new file
# is opened once, exclusively; all that follows speaks of that open file, and
# not of a name that somebody else could give to another file.
put_file() {
	enter "$1" make
	no_directory "$2"
	mode=$5 owner=$6 group=$7
	attributes "$2"
	[ -w . ] || die "user $(id -un) may not write in $1"
	rm -f -- "./$3"
	set -C
	exec 9>"./$3" || die "cannot make a new file in $1"
	set +C
	made=$3
	new=/proc/$$/fd/9
	if [ ! -e "$new" ]; then new=./$3; fi
	decode >&9 || die "cannot write the new file in $1: is the disk full?"
	sum=$(sha256sum <"$new") || die "cannot read the new file in $1"
	[ "${sum%% *}" = "$4" ] || die "what was written in $1 is not what was sent: is the disk full?"
	own "$new"
	flush "$new"
	exec 9>&-
	place "$3" "$2"
	made=
	flush .
	if [ -e /sys/fs/selinux/enforce ] && command -v restorecon >/dev/null 2>&1; then restorecon -- "./$2"; fi
	cd /
}
# remove_file DIR NAME TEMP
remove_file() {
	enter "$1" find || return 0
	no_directory "$2"
	rm -f -- "./$3" "./$2" || die "cannot remove $1/$2"
	flush .
	cd /
}
