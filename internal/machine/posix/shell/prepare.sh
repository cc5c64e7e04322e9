refuse() {
	printf 'x %s\n' "$*"
}
# prepare: the state directory is ours, and nobody else may look into it.
prepare() {
	if [ -L "$S" ]; then
		refuse "$S is a symbolic link"
		return 1
	fi
	if ! [ -d "$S/marks" ] || ! [ -d "$S/jobs" ] || ! [ -d "$S/epoch" ]; then
		if ! e=$(mkdir -p "$S/marks" "$S/jobs" "$S/epoch" 2>&1); then
			refuse "$e"
			return 1
		fi
	fi
	if ! [ -O "$S" ]; then
		refuse "$S belongs to another user"
		return 1
	fi
}
# prune_blobs removes the staged content that no job has taken for a day.
prune_blobs() {
	[ -d "$S/blobs" ] || return 0
	x=$(date +%s)
	for b in "$S"/blobs/* "$S"/blobs/.[!.]*; do
		if [ -f "$b" ] && e=$(stat -c %Y "$b") && [ "$((x - e))" -gt 86400 ]; then rm -f "$b"; fi
	done
}
