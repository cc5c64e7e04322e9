# closed: the state directory is there, and we may not look into it.
closed=
if [ -d "$S" ]; then
	for x in "$S" "$S/marks" "$S/jobs"; do
		if [ -d "$x" ] && [ ! -x "$x" ]; then closed=1; fi
	done
else
	case $(stat -c %f -- "$S" 2>&1) in
	*'No such file or directory') ;;
	*) closed=1 ;;
	esac
fi
mark() {
	if [ -n "$closed" ]; then
		printf 'd %s\n' "$1"
	elif [ -f "$S/marks/$2" ]; then
		while IFS= read -r l; do printf 'm %s %s\n' "$1" "$l"; done <"$S/marks/$2"
	else
		printf 'n %s\n' "$1"
	fi
}
receipt() {
	if [ -n "$closed" ]; then
		printf 'D %s\n' "$1"
	else
		report "$1" "$S/jobs/$2"
	fi
}
