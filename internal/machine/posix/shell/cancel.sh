# cancel_job: the word that it is not wanted any more is written first, then its
# process is looked for; who runs the job writes down the process first, and then
# looks for the word. So one of the two always sees the other. The receipt is written by who runs it.
cancel_job() {
	job_state "$J"
	if [ "$phase" != Running ]; then return; fi
	# Without "command" a shell ends where this fails.
	command : >"$J/cancel" || return
	i=0
	while :; do
		job_state "$J"
		if [ "$phase" != Running ] || [ "$i" -ge 100 ]; then break; fi
		# TERM once it has begun, KILL two seconds later.
		if [ "$i" = 0 ]; then signal TERM; elif [ "$i" -ge 40 ]; then signal KILL; fi
		i=$((i + 1))
		sleep 0.05 2>/dev/null || {
			sleep 1
			i=$((i + 19))
		}
	done
	if [ "$phase" = Lost ]; then conclude; fi
	sweep
}
# conclude: nobody is left to write the receipt. It appears once, whoever cancels.
conclude() {
	printf '137 %s %s cancelled\n' "$step" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$J/.exit.$n" || return
	ln "$J/.exit.$n" "$J/exit" 2>/dev/null
	rm -f "$J/.exit.$n"
	job_state "$J"
}
# signal NAME: all of the steps' group, if it is still theirs.
signal() {
	s= since=
	{ read -r s since <"$J/steps"; } 2>/dev/null || return 0
	if ! alive "$s" "$since"; then return; fi
	kill "-$1" "-$s" 2>/dev/null || kill "-$1" "$s" 2>/dev/null
}
# sweep: what has left the group is still in the unit.
sweep() {
	if [ ! -d /run/systemd/system ] || [ "$(id -u)" != 0 ]; then return; fi
	x=isthmus-job-$I.service
	if [ "$phase" = Running ]; then return; fi
	systemctl kill --kill-who=all --signal=KILL -- "$x" 2>/dev/null
}
# cancel
cancel() {
	if [ ! -d "$S/epoch" ]; then
		report 0 "$J"
		return
	fi
	raise
	case $? in
	0) ;;
	1)
		printf 's %s\n' "$seen"
		return
		;;
	*)
		printf 'x cannot write into %s\n' "$S/epoch"
		return
		;;
	esac
	prune
	cancel_job
	report 0 "$J"
}
