read_mark() {
	m_subject= m_cluster= m_uid= m_object= m_adopted= m_started= m_instance= m_pending= m_before=
	[ -e "$1" ] || return 0
	while IFS= read -r l; do
		v=${l#* }
		case $l in
		subject\ *) m_subject=$v ;;
		cluster\ *) m_cluster=$v ;;
		uid\ *) m_uid=$v ;;
		object\ *) m_object=$v ;;
		adopted\ *) m_adopted=$v ;;
		started\ *) m_started=$v ;;
		instance\ *) m_instance=$v ;;
		pending\ *) m_pending=$v ;;
		before\ *) m_before=$v ;;
		esac
	done <"$1" || die "cannot read $1"
}
write_mark() {
	printf '%s\n' "subject $m_subject" "cluster $m_cluster" "uid $m_uid" "object $m_object" "adopted $m_adopted" \
		"started $m_started" "instance $m_instance" "pending $m_pending" "before $m_before" "end " >"$1.new" &&
		flush "$1.new" && mv -f "$1.new" "$1" && flush "$S/marks" || die "cannot write $1"
}
ours() {
	[ "$m_cluster" = "$1" ] && [ "$m_uid" = "$2" ]
}
# claim FILE SUBJECT CLUSTER UID OBJECT ADOPTED: whether the thing was there
# before is known best by the first claim of an owner.
claim() {
	read_mark "$1"
	if [ -n "$m_uid" ] && ! ours "$3" "$4"; then
		die "$2 is managed by $m_object (UID $m_uid) of cluster $m_cluster"
	fi
	[ -n "$m_uid" ] || m_adopted=$6
	m_subject=$2 m_cluster=$3 m_uid=$4 m_object=$5
	write_mark "$1"
}
# release FILE CLUSTER UID: a mark that nobody owns was left by a start without
# a claim, and goes too.
release() {
	read_mark "$1"
	if [ -z "$m_uid" ] || ours "$2" "$3"; then rm -f "$1" "$1.new" || die "cannot remove $1"; fi
	flush "$S/marks"
}
