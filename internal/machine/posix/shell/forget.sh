forget() {
	job_state "$S/jobs/$1"
	if [ "$phase" = Running ]; then return; fi
	rm -rf "$S/jobs/$1"
}
empty() {
	for x in "$1"/* "$1"/.[!.]*; do
		if [ -e "$x" ] || [ -L "$x" ]; then return 1; fi
	done
}
# leave: with the last mark and the last receipt goes the rest of the state. A
# rmdir fails where something has come meanwhile.
leave() {
	if [ ! -d "$S" ] || [ -L "$S" ]; then return; fi
	prune_blobs
	if ! empty "$S/marks" || ! empty "$S/jobs"; then return; fi
	if [ -d "$S/blobs" ]; then rmdir "$S/blobs" 2>/dev/null || return; fi
	{ rmdir "$S/jobs" && rmdir "$S/marks" && rm -f "$S"/epoch/* && rmdir "$S/epoch" && rmdir "$S"; } 2>/dev/null
}
