now() {
	date -u +%Y-%m-%dT%H:%M:%SZ
}
# begin: of all processes that were launched for this job, one gets past here.
# The receipt appears whole or not at all, and only once: link(2) does not replace.
begin() {
	born "$$" || at=0
	r="$J/.started.$$"
	printf '%s %s %s %s %s\n' "$E" "$B" "$$" "$at" "$(now)" >"$r" || return 1
	ln "$r" "$J/started" 2>/dev/null || {
		rm -f "$r"
		return 1
	}
	rm -f "$r"
	raise || {
		rm -f "$J/started"
		return 1
	}
	flush "$J/started" "$J"
}
# after SECONDS COMMAND...: in the background; a TERM ends it before.
after() {
	p=
	trap 'kill "$p" 2>/dev/null; exit 0' TERM
	sleep "$1" &
	p=$!
	wait "$p"
	shift
	"$@"
}
# strike SIGNAL PID: a process and its group. One that has just been forked has no group of its own yet.
strike() {
	kill "-$1" "$G$2" 2>/dev/null || kill "-$1" "$2" 2>/dev/null
}
# expire: the supervisor may be gone, and the number of the steps' process be
# somebody else's by now.
expire() {
	alive "$s" "$since" || return
	# Without "command" a shell ends where this fails.
	command : >"$J/timeout"
	strike TERM "$s"
	sleep 5
	if alive "$s" "$since"; then strike KILL "$s"; fi
}
# run: the steps in a process group of their own, so that all of it can be
# ended when the time is over, and what they print through a bounded filter.
run() {
	G=
	leader=
	if command -v setsid >/dev/null 2>&1; then G=- leader=setsid; fi
	mkfifo "$J/pipe"
	$leader "$H" -c 'head -c 32768 >"$1/head"; exec tail -c 32768 >"$1/tail"' filter "$J" <"$J/pipe" &
	f=$!
	$leader "$H" "$0" steps >"$J/pipe" 2>&1 &
	s=$!
	born "$s"
	since=${at:-0}
	printf '%s %s\n' "$s" "$since" >"$J/steps"
	# Who cancels writes the word first and looks for the process then.
	if [ -f "$J/cancel" ]; then strike KILL "$s"; fi
	after "$T" expire &
	w=$!
	wait "$s"
	code=$?
	kill "$w" 2>/dev/null
	# A job's processes end with it.
	if [ -n "$G" ]; then kill -KILL "-$s" 2>/dev/null; fi
	# The filter waits for ever for steps that ended before they opened the pipe, and
	# for what has left their group and holds it open.
	after 2 strike KILL "$f" &
	w=$!
	wait "$f"
	kill "$w" 2>/dev/null
	how=
	if [ -f "$J/timeout" ]; then code=124; fi
	if [ -f "$J/cancel" ] && [ "$code" != 0 ]; then how=cancelled; fi
}
hide() {
	r=
	while :; do
		case $l in
		*"$1"*)
			r=$r${l%%"$1"*}[redacted]
			l=${l#*"$1"}
			;;
		*)
			l=$r$l
			return
			;;
		esac
	done
}
# show: what the steps printed, redacted line by line. Where the middle was
# dropped, so are the two lines that it was cut out of: half a secret is not recognised.
show() {
	while IFS= read -r l; do redact; done <"$J/head"
	if [ ! -s "$J/tail" ]; then
		if [ -n "$l" ]; then redact; fi
		return
	fi
	printf '[...]\n'
	{
		IFS= read -r l
		while IFS= read -r l; do redact; done
		if [ -n "$l" ]; then redact; fi
	} <"$J/tail"
}
finish() {
	show >"$J/output"
	if [ "$code" = 124 ] && [ -f "$J/timeout" ]; then printf 'the job ran out of time after %s s\n' "$T" >>"$J/output"; fi
	if [ -n "$how" ]; then printf 'the job was cancelled\n' >>"$J/output"; fi
	if [ -s "$J/output" ]; then
		tail -c 2048 "$J/output" >"$J/message"
	else
		command : >"$J/message"
	fi
	# Who ended the steps may have done so while the number was written.
	step=
	{ read -r step <"$J/step"; } 2>/dev/null
	step=${step:-0}
	rm -f "$J"/script.* "$J/pipe" "$J/head" "$J/tail" "$J/steps" "$J/timeout"
	printf '%s %s %s %s\n' "$code" "$step" "$(now)" "$how" >"$J/.exit" && flush "$J/.exit" && mv -f "$J/.exit" "$J/exit"
}
supervise() {
	exec </dev/null >/dev/null 2>&1
	if begin; then
		run
		finish
	else
		rm -f "$0"
	fi
}
