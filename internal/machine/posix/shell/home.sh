# home: systemd and some sudo leave it unset.
home() {
	if [ -n "${HOME:-}" ]; then return; fi
	x=$(id -un)
	case $x in
	*[!A-Za-z0-9._-]*) HOME=/ ;;
	*) eval "HOME=~$x" ;;
	esac
	export HOME
}
