# This is the room in which all scripts of users of one request run: a shell of its own in a session of its own,
# fed by here-document. In its group all is ours, so a signal to the group can tell what is to become of
# the scripts, each of which has a session of its own: USR1 ends them, USR2 kills them, and TERM ends the
# filters of their output. Where there is no setsid, $G is empty, nothing is sent to groups, and each script has a
# watch of its own. Of all requests nothing is killed but what was started here.
exec 2>/dev/null
trap '' USR1 USR2 TERM
# clock: hundredths of a second into $now_.
clock() {
	x=
	{ read -r x c </proc/uptime; } || x=
	case $x in
	*.??) now_=${x%.*}${x#*.} ;;
	*) now_=$(date +%s)00 ;;
	esac
}
# over SECONDS: the scripts are ended, and killed so many seconds later; one second after that goes what still waits
# for their output, because something that has left its script's session holds it open.
over() {
	kill -USR1 0
	sleep "$1"
	kill -USR2 0
	sleep 1
	kill -TERM 0
	sleep 1
	kill -KILL 0
}
# mind SECONDS: beside all scripts, for as long as they may take together, and as the request's input is
# open: it ends when nobody waits for the answer any more. Whoever kills the request's shell does not kill these.
mind() {
	clock
	until_=$((now_ + $1 * 100))
	if [ -z "$G" ]; then return; fi
	{
		exec </dev/null >/dev/null 8<&-
		sleep "$1"
		over 2
	} &
	{
		exec <&8 >/dev/null 8<&-
		read -r x
		over 1
	} &
}
# end SIGNAL: the script and all of its group; before it has one, the process that is to become it.
end() {
	told=$1
	if [ -z "$s" ] || ! alive "$s" "$since"; then return; fi
	kill "-$1" "$G$s" || kill "-$1" "$s"
}
# timer SECONDS: TERM when the time is over, KILL two seconds later.
timer() {
	sleep "$1"
	end TERM
	sleep 2
	end KILL
}
# life: the request's input ends when nobody waits for its answer any more.
life() {
	read -r x
	end TERM
	sleep 1
	end KILL
}
# watch: beside one script, where it needs more than the room's. A function's own redirections would keep the filter's pipe open, to restore it.
watch() {
	w=
	if [ -n "$own" ] || [ -z "$G" ]; then
		{
			exec >/dev/null 8<&-
			timer "$(((limit + 99) / 100))"
		} &
		w=$!
	fi
	if [ -n "$G" ]; then return; fi
	{
		exec <&8 >/dev/null 8<&-
		life
	} &
	w="$w $!"
}
# ended WORD is the last line of an answer.
ended() {
	printf '\n%s ended %s %s\n' "$n" "$i" "$1"
}
# attempt NUMBER: one script, and its end.
attempt() {
	i=$1 s= told=
	trap 'end TERM' USR1
	trap 'end KILL' USR2
	if [ -n "$off" ] || [ "$limit" -le 0 ]; then
		ended late
	elif "there_$i"; then
		run
	else
		ended missing
	fi
}
run() {
	{
		exec 8<&-
		trap - USR1 USR2 TERM
		"script_$i"
	} &
	s=$!
	born "$s"
	since=${at:-0}
	if [ -n "$told" ]; then end "$told"; fi
	watch
	wait "$s"
	code=$?
	# A signal ends the wait before the script has ended.
	while [ -n "$told" ]; do
		told= code=late
		wait "$s"
	done
	if [ -n "$G" ]; then kill -KILL "-$s"; fi
	if [ -n "$w" ]; then kill $w; fi
	clock
	if [ "$((now_ - began))" -ge "$limit" ]; then code=late; fi
	ended "$code"
}
# ask NUMBER SECONDS BYTES: what the script prints goes by a filter that keeps the end of it.
ask() {
	printf '\n%s script %s\n' "$n" "$1"
	clock
	began=$now_ own=$2
	limit=$((own * 100))
	if [ "$limit" -ge "$((until_ - now_))" ]; then limit=$((until_ - now_)) own=; fi
	attempt "$1" | {
		trap '' USR1
		trap - TERM
		if [ -n "$own" ] || [ -z "$G" ]; then loosen "$(((limit + 399) / 100))"; fi
		exec tail -c "$3"
	}
}
# loosen SECONDS: ends the filter that this shell becomes. Something that has left the script's group holds its output open.
loosen() {
	{ read -r me x </proc/self/stat; } && born "$me" || return
	{
		exec </dev/null >/dev/null 8<&-
		sleep "$1"
		if alive "$me" "$at"; then kill "$me"; fi
	} &
}
# lane: scripts that run one after the other. None is begun after a signal.
off=
lane() {
	trap 'off=1' USR1
}
# rest: after a lane, what the lanes beside it have said.
rest() {
	trap '' USR1
	exec cat
}
# leave: with all that waited beside the scripts.
leave() {
	if [ -n "$G" ]; then kill -KILL 0; fi
}
