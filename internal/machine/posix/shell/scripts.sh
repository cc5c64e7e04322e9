# $L is setsid, whatever PATH a script has; empty where there is none.
find_leader() {
	L=
	command -v setsid >/dev/null 2>&1 || return
	L=setsid IFS=:
	for x in $PATH; do
		if [ -x "$x/setsid" ]; then
			L=$x/setsid
			break
		fi
	done
	unset IFS
}
# budget SECONDS: how long all of the scripts may take together.
budget() {
	uptime
	until_=$((up + $1))
}
uptime() {
	up=
	{ read -r up x </proc/uptime; } 2>/dev/null
	up=${up%%.*}
	up=${up:-$(date +%s)}
}
# left SECONDS: sets $T to what is left for a script that may take so long; 0 is nothing.
left() {
	uptime
	T=$((until_ - up))
	if [ "$T" -gt "$1" ]; then T=$1; fi
	if [ "$T" -lt 0 ]; then T=0; fi
}
# over PID: what is left of the shell that ran a script is its timer.
over() {
	wait "$1"
	if [ -n "$L" ]; then kill -KILL "-$1" 2>/dev/null; fi
}
