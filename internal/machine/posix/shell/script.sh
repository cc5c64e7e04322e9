# This is what runs one script of a user: a shell of its own in a session of its
# own, fed by here-document with the number of the check and its time in seconds.
# Of all requests nothing is killed but what was started here.
hundredths() {
	x=
	{ read -r x c </proc/uptime; } 2>/dev/null || x=
	case $x in
	*.??) now_=${x%.*}${x#*.} ;;
	*) now_=$(date +%s)00 ;;
	esac
}
# end SIGNAL: the script and all of its group.
end() {
	if alive "$s" "$since"; then kill "-$1" "$G$s"; fi
}
# timer: TERM when the time is over, KILL two seconds later. One second after that goes all
# the rest: something that left the group holds the output open.
timer() {
	sleep "$T"
	end TERM
	sleep 2
	end KILL
	sleep 1
	if [ -n "$G" ]; then kill -KILL 0; fi
}
# life: the request's input ends when nobody waits for its answer any more.
life() {
	read -r x
	end TERM
	sleep 1
	end KILL
	if [ -n "$G" ]; then kill -KILL 0; fi
}
# ended WORD is the last line of an answer.
ended() {
	printf '\n%s ended %s %s\n' "$n" "$i" "$1"
}
attempt() {
	hundredths
	began=$now_
	{
		exec 8<&-
		script
	} &
	s=$!
	born "$s"
	since=${at:-0}
	# A function's own redirections would keep the filter's pipe open, to restore it.
	{
		exec </dev/null >/dev/null 8<&-
		timer
	} &
	w=$!
	{
		exec <&8 >/dev/null 8<&-
		life
	} &
	l=$!
	wait "$s"
	code=$?
	if [ -n "$G" ]; then kill -KILL "-$s"; else kill "$w" "$l"; fi
	hundredths
	if [ "$((now_ - began))" -ge "$((T * 100))" ]; then code=late; fi
	ended "$code"
}
# ask BYTES: what the script prints goes by a filter that keeps the end of it.
ask() {
	printf '\n%s script %s\n' "$n" "$i"
	if there; then
		attempt | tail -c "$1"
	else
		ended missing
	fi
} 2>/dev/null
