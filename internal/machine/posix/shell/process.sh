# born PID: when the process was started, in clock ticks since boot, into $at.
# A zombie has ended. The name of a process may hold spaces and parentheses, so
# the fields are counted from the last one.
born() {
	at=
	{ IFS= read -r at <"/proc/$1/stat"; } 2>/dev/null || return 1
	set -- ${at##*) }
	at=${20}
	[ -n "$at" ] && [ "$1" != Z ]
}
# alive PID BORN: the process is there, and is not another one with its number.
alive() {
	if [ -e /proc/self/stat ]; then
		born "$1" && [ "$at" = "$2" ]
	else
		kill -0 "$1" 2>/dev/null
	fi
}
