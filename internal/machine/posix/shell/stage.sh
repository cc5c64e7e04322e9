# stage SHA256 MOST: content comes on the request's input when it is asked for.
# It is written under a name of its own, and gets its own name when it is whole.
stage() {
	prepare || return
	if ! e=$(mkdir -p "$S/blobs" 2>&1); then
		refuse "$e"
		return
	fi
	b=$S/blobs/$1
	if [ -f "$b" ]; then
		e=$(sha256sum <"$b")
		if [ "${e%% *}" = "$1" ]; then
			touch "$b"
			printf 'h\n'
			return
		fi
	fi
	x=$S/blobs/.$n
	printf '%s ready\n' "$n"
	said=
	receive "$1" "$2" <&8 || said="x cannot write into $S/blobs: is the disk full?"
	# Where nobody listens any more, to say something is to end.
	rm -f "$x"
	printf '%s\n' "$said"
}
# receive SHA256 MOST: not a byte more is read.
receive() {
	head -c "$2" >"$x" || return 1
	e=$(sha256sum <"$x") || return 1
	if [ "${e%% *}" != "$1" ]; then
		said="i $(stat -c %s "$x")"
		return
	fi
	mv -f "$x" "$b" || return 1
	said=h
} 2>/dev/null
