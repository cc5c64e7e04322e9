job_ended() {
	[ -f "$1/exit" ] || return 1
	{ read -r code step ended how <"$1/exit"; } 2>/dev/null
	case $code/$how in
	0/) phase=Succeeded ;;
	*/cancelled) phase=Cancelled ;;
	*) phase=Failed ;;
	esac
}
job_lives() {
	[ "$boot" = "$B" ] || return 1
	alive "$pid" "$since" && return 0
	{ read -r pid since <"$1/steps"; } 2>/dev/null && alive "$pid" "$since"
}
# job_state DIR: what became of a job, into $phase and the fields of its receipts.
# The exit receipt is looked for again after the process was seen to be gone.
job_state() {
	phase=Absent epoch=0 boot= pid= since= begun= ended= code=0 step=0
	[ -f "$1/started" ] || return 0
	{ read -r epoch boot pid since begun <"$1/started"; } 2>/dev/null
	job_ended "$1" && return 0
	{ read -r step <"$1/step"; } 2>/dev/null
	step=${step:-0}
	phase=Running
	job_lives "$1" || job_ended "$1" || phase=Lost
}
# report NUMBER DIR: one line for the receipt, and one for each line of its message.
# After a power failure a receipt may be there without its content.
report() {
	job_state "$2"
	printf 'j %s %s %s %s %s %s %s %s\n' "$1" "$phase" "${epoch:-0}" "${boot:--}" "${begun:--}" "${ended:--}" "${code:-1}" "${step:-0}"
	case $phase in Failed | Cancelled) ;; *) return 0 ;; esac
	[ -f "$2/message" ] || return 0
	while IFS= read -r l || [ -n "$l" ]; do printf 'o %s %s\n' "$1" "$l"; done <"$2/message"
}
