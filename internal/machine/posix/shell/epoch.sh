# The epochs that the host has obeyed are empty files in $S/epoch, named by a
# number of fixed width; the last of them is in force.
newest() {
	seen=
	for x in "$S"/epoch/*; do
		if [ -e "$x" ]; then seen=${x##*/}; fi
	done
}
# raise: 0 when $E is in force, 1 when a newer one is ($seen), 2 when it cannot
# be written down. No lock is needed: a job first writes its receipt and then
# looks for a newer epoch; a new leader first writes its epoch and then looks
# for receipts. So one of the two always sees the other.
raise() {
	tries=0
	while [ "$tries" -lt 5 ]; do
		newest
		if [ -n "$seen" ] && [ "$seen" -gt "$E" ]; then return 1; fi
		if [ "$seen" = "$E" ] && [ "$tries" -gt 0 ]; then return 0; fi
		# Without "command" a shell ends where this fails.
		{ command : >"$S/epoch/$E"; } 2>/dev/null || return 2
		tries=$((tries + 1))
	done
	return 2
}
# prune removes the epochs before $E, the oldest first.
prune() {
	for x in "$S"/epoch/*; do
		if [ "${x##*/}" -lt "$E" ]; then rm -f "$x"; fi
	done
}
