# made is a new file that has no name of its own yet: what failed leaves no content behind.
made=
die() {
	fail 1 "$*"
}
# fail CODE TEXT
fail() {
	printf '%s\n' "$2" >&2
	if [ -n "$made" ]; then rm -f -- "./$made"; fi
	exit "$1"
}
at_step() {
	printf '%s\n' "$1" >"$J/step"
}
pause() {
	sleep 0.1 2>/dev/null || sleep 1
}
