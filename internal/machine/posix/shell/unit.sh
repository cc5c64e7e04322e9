# unit NAME: its state, into $load, $active, $sub, $instance and $main.
unit() {
	load= active= sub= instance= main=0
	shown=$(systemctl show -p LoadState -p ActiveState -p SubState -p InvocationID -p MainPID -- "$1") || die "systemctl cannot show $1"
	while IFS= read -r l; do
		v=${l#*=}
		case $l in
		LoadState=*) load=$v ;;
		ActiveState=*) active=$v ;;
		SubState=*) sub=$v ;;
		InvocationID=*) instance=$v ;;
		MainPID=*) main=$v ;;
		esac
	done <<EOF_SHOWN
$shown
EOF_SHOWN
}
# settle NAME: a state that passes by itself is waited for, for half of the
# job's time. A service that is about to be started again after a failure is not
# in such a state: it may be so for ever.
settle() {
	until_=$(($(date +%s) + T / 2))
	while :; do
		unit "$1"
		case $active/$sub in
		*/auto-restart*) return ;;
		activating/* | deactivating/* | reloading/* | refreshing/*) ;;
		*) return ;;
		esac
		if [ "$(date +%s)" -ge "$until_" ]; then return; fi
		pause
	done
}
# pending FILE SUBJECT HASH: the intent, on the disk before the effect.
pending() {
	m_subject=$2 m_pending=$3 m_before=$instance
	write_mark "$1"
}
# started FILE SUBJECT HASH: the instance that runs now has this hash.
started() {
	m_subject=$2 m_started=$3 m_instance=$instance m_pending= m_before=
	write_mark "$1"
}
# done_before HASH: a start with this hash was begun, and another instance than
# the one before it runs: it has happened, and only the mark is behind.
done_before() {
	[ "$active" = active ] && [ "$m_pending" = "$1" ] && [ "$instance" != "$m_before" ]
}
# bring_up start|restart NAME: what was started too often would be refused, and
# a restart that is refused leaves the service stopped. How often is too often
# is decided by who asked for the job. A program that ends at once has run for a moment. A start
# would wait as long as systemd waits before it restarts a unit; a restart does not.
bring_up() {
	systemctl reset-failed -- "$2" 2>/dev/null
	verb=$1
	case $active/$sub in */auto-restart*) verb=restart ;; esac
	systemctl "$verb" -- "$2" || die "systemctl $verb $2 failed"
	settle "$2"
	if [ "$active" = active ]; then
		pause
		settle "$2"
	fi
	[ "$active" = active ] || die "$2 did not stay up: it is $active ($sub); journalctl -u $2 on the host says more"
}
# start_service UNIT FILE SUBJECT HASH
start_service() {
	settle "$1"
	read_mark "$2"
	if done_before "$4"; then
		started "$2" "$3" "$4"
	elif [ "$active" != active ]; then
		pending "$2" "$3" "$4"
		bring_up start "$1"
		started "$2" "$3" "$4"
	fi
}
# restart_service UNIT FILE SUBJECT HASH
restart_service() {
	settle "$1"
	read_mark "$2"
	if ! done_before "$4"; then
		pending "$2" "$3" "$4"
		bring_up restart "$1"
	fi
	started "$2" "$3" "$4"
}
# record_start UNIT FILE SUBJECT HASH
record_start() {
	settle "$1"
	[ "$active" = active ] || die "$1 does not run: it is $active"
	read_mark "$2"
	started "$2" "$3" "$4"
}
# stop_service UNIT: inactive is not enough, its process must be gone.
stop_service() {
	unit "$1"
	if [ "$load" = not-found ] && [ "$active" = inactive ]; then return; fi
	process=$main
	born "$process" || process=0
	since=$at
	systemctl stop -- "$1" || die "systemctl stop $1 failed"
	while :; do
		unit "$1"
		case $active in
		inactive | failed) [ "$process" != 0 ] && alive "$process" "$since" || return 0 ;;
		esac
		pause
	done
}
