die() {
	printf '%s\n' "$*" >&2
	exit 1
}
at_step() {
	printf '%s\n' "$1" >"$J/step"
}
pause() {
	sleep 0.1 2>/dev/null || sleep 1
}
