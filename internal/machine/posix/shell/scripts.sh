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
