# delivered DIGEST: all of the script has come.
delivered() {
	e=$(sha256sum <"$X") || return 1
	[ "${e%% *}" = "$1" ]
}
# launch: the job's process belongs to the host and not to this session. What
# is launched twice begins once: see begin.
launch() {
	if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ]; then
		systemd-run --quiet --collect --unit="isthmus-job-$I" --description="Isthmus job $I" \
			-- "$H" "$X" supervise >/dev/null 2>&1 && return 0
	fi
	if command -v setsid >/dev/null 2>&1; then
		setsid "$H" "$X" supervise >/dev/null 2>&1 &
	else
		nohup "$H" "$X" supervise >/dev/null 2>&1 &
	fi
}
# await: up to $1 twentieths of a second for a job that has begun to end, and 10 s for it to begin.
# One that is refused when it would begin removes its script, and has no receipt. Each look
# costs a process, so the pauses grow with the time that has passed.
await() {
	i=0
	while [ ! -f "$J/exit" ]; do
		if [ "$i" -ge "$1" ] && [ -f "$J/started" ]; then return 0; fi
		if [ "$i" -ge 200 ]; then return 1; fi
		if [ ! -e "$X" ] && [ ! -f "$J/started" ]; then return 1; fi
		d=$((i / 2 + 1))
		if [ "$d" -gt 4 ]; then d=4; fi
		case $d in 1) x=0.05 ;; *) x=0.$((d * 5)) ;; esac
		if sleep "$x" 2>/dev/null; then
			i=$((i + d))
		else
			sleep 1
			i=$((i + 20))
		fi
	done
}
begin_job() {
	if ! delivered "$1"; then
		rm -f "$X"
		job_state "$J"
		[ "$phase" != Absent ] || refuse "the job could not be written into $J: is the disk full?"
		return
	fi
	launch
	if await "$2"; then return; fi
	# A script that is not there any more cannot begin later.
	rm -f "$X"
	job_state "$J"
	if [ "$phase" != Absent ]; then return; fi
	if raise || [ $? -ne 1 ]; then
		refuse "the host did not begin the job"
	else
		printf 's %s\n' "$seen"
	fi
}
# submit DIGEST WAIT
submit() {
	prepare || return
	raise
	case $? in
	0) ;;
	1)
		printf 's %s\n' "$seen"
		return
		;;
	*)
		refuse "cannot write into $S/epoch"
		return
		;;
	esac
	prune
	prune_blobs
	job_state "$J"
	if [ "$phase" = Absent ]; then
		deliver 2>/dev/null
		begin_job "$1" "$2"
	fi
	report 0 "$J"
}
