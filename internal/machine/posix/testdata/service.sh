isthmus_job() {
LC_ALL=C
export LC_ALL
umask 077
PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
unset CDPATH ENV
B=-
{ read -r B </proc/sys/kernel/random/boot_id; } 2>/dev/null
S='/var/lib/isthmus'
I=u-1-service-1
E=9223372036854775807
T=2
J=$S/jobs/$I
H=/bin/sh
TMPDIR=$J
export TMPDIR
newest() {
seen=
for x in "$S"/epoch/*; do
if [ -e "$x" ]; then seen=${x##*/}; fi
done
}
raise() {
tries=0
while [ "$tries" -lt 5 ]; do
newest
if [ -n "$seen" ] && [ "$seen" -gt "$E" ]; then return 1; fi
if [ "$seen" = "$E" ] && [ "$tries" -gt 0 ]; then return 0; fi
{ command : >"$S/epoch/$E"; } 2>/dev/null || return 2
tries=$((tries + 1))
done
return 2
}
prune() {
for x in "$S"/epoch/*; do
if [ "${x##*/}" -lt "$E" ]; then rm -f "$x"; fi
done
}
born() {
at=
{ IFS= read -r at <"/proc/$1/stat"; } 2>/dev/null || return 1
set -- ${at##*) }
at=${20}
[ -n "$at" ] && [ "$1" != Z ]
}
alive() {
if [ -e /proc/self/stat ]; then
born "$1" && [ "$at" = "$2" ]
else
kill -0 "$1" 2>/dev/null
fi
}
flush() {
sync "$@" 2>/dev/null || sync
}
now() {
date -u +%Y-%m-%dT%H:%M:%SZ
}
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
after() {
p=
trap 'kill "$p" 2>/dev/null; exit 0' TERM
sleep "$1" &
p=$!
wait "$p"
shift
"$@"
}
strike() {
kill "-$1" "$G$2" 2>/dev/null || kill "-$1" "$2" 2>/dev/null
}
expire() {
alive "$s" "$since" || return
command : >"$J/timeout"
strike TERM "$s"
sleep 5
if alive "$s" "$since"; then strike KILL "$s"; fi
}
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
if [ -f "$J/cancel" ]; then strike KILL "$s"; fi
after "$T" expire &
w=$!
wait "$s"
code=$?
kill "$w" 2>/dev/null
if [ -n "$G" ]; then kill -KILL "-$s" 2>/dev/null; fi
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
redact() {
printf '%s\n' "$l"
}
made=
die() {
fail 1 "$*"
}
fail() {
printf '%s\n' "$2" >&2
if [ -n "$made" ]; then rm -f -- "./$made"; fi
exit "$1"
}
at_step() {
printf '%s\n' "$1" >"$J/step"
}
pause() {
sleep 0.1 2>/dev/null || sleep 1
}
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
claim() {
read_mark "$1"
if [ -n "$m_uid" ] && ! ours "$3" "$4"; then
die "$2 is managed by $m_object (UID $m_uid) of cluster $m_cluster"
fi
[ -n "$m_uid" ] || m_adopted=$6
m_subject=$2 m_cluster=$3 m_uid=$4 m_object=$5
write_mark "$1"
}
release() {
read_mark "$1"
if [ -z "$m_uid" ] || ours "$2" "$3"; then rm -f "$1" "$1.new" || die "cannot remove $1"; fi
flush "$S/marks"
}
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
pending() {
m_subject=$2 m_pending=$3 m_before=$instance
write_mark "$1"
}
started() {
m_subject=$2 m_started=$3 m_instance=$instance m_pending= m_before=
write_mark "$1"
}
done_before() {
[ "$active" = active ] && [ "$m_pending" = "$1" ] && [ "$instance" != "$m_before" ]
}
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
restart_service() {
settle "$1"
read_mark "$2"
if ! done_before "$4"; then
pending "$2" "$3" "$4"
bring_up restart "$1"
fi
started "$2" "$3" "$4"
}
record_start() {
settle "$1"
[ "$active" = active ] || die "$1 does not run: it is $active"
read_mark "$2"
started "$2" "$3" "$4"
}
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
step_0() {
systemctl daemon-reload || die 'systemctl daemon-reload failed'
}
step_1() {
systemctl --quiet enable -- 'ledger.service' || die 'systemctl enable failed'
}
step_2() {
start_service 'ledger.service' "$S/marks/d51d85c7a05c06c6f327b2878afa2ab89f3861135f271d56aab662e5b348edc4" 'systemd/ledger.service' 'h1'
}
step_3() {
restart_service 'ledger.service' "$S/marks/d51d85c7a05c06c6f327b2878afa2ab89f3861135f271d56aab662e5b348edc4" 'systemd/ledger.service' 'h2'
}
step_4() {
record_start 'ledger.service' "$S/marks/d51d85c7a05c06c6f327b2878afa2ab89f3861135f271d56aab662e5b348edc4" 'systemd/ledger.service' 'h3'
}
step_5() {
stop_service 'ledger.service'
}
step_6() {
systemctl --quiet disable -- 'ledger.service' || die 'systemctl disable failed'
}
step_7() {
release "$S/marks/d51d85c7a05c06c6f327b2878afa2ab89f3861135f271d56aab662e5b348edc4" 'c-1' 'u-1'
}
steps() {
rm -f "$J"/script.*
at_step 0
step_0
at_step 1
step_1
at_step 2
step_2
at_step 3
step_3
at_step 4
step_4
at_step 5
step_5
at_step 6
step_6
at_step 7
step_7
exit 0
}
"$1"
}
isthmus_job "$1"
