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
I=u-1-files-1
E=0000000000000000042
T=90
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
hide 'bwBuAGUAJwAKAGwAbwBuAGcAZQByACAAbABpAG4AZQAKAGEAYgBjAA=='
hide 'bwBuAGUAJwAKAGwAbwBuAGcAZQByACAAbABpAG4AZQAKAGEAYgBjAA'
hide 'bwBuAGUAJwAKAGwAbwBuAGcAZQByACAAbABpAG4AZQAKAGEAYgBjA'
hide 'vAG4AZQAnAAoAbABvAG4AZwBlAHIAIABsAGkAbgBlAAoAYQBiAGMA'
hide '8AbgBlACcACgBsAG8AbgBnAGUAcgAgAGwAaQBuAGUACgBhAGIAYw'
hide 'one&#39;&#xA;longer line&#xA;abc'
hide 'b25lJwpsb25nZXIgbGluZQphYmM='
hide 'one%27%0Alonger%20line%0Aabc'
hide 'one%27%0alonger%20line%0aabc'
hide 'b25lJwpsb25nZXIgbGluZQphYmM'
hide '9uZScKbG9uZ2VyIGxpbmUKYWJj'
hide 'b25lJwpsb25nZXIgbGluZQphYm'
hide 'one%27%0Alonger+line%0Aabc'
hide 'one%27%0alonger+line%0aabc'
hide 'vbmUnCmxvbmdlciBsaW5lCmFiY'
hide 'one'\''\nlonger line\nabc'
hide 'aAB1AG4AdABlAHIAMgA='
hide 'aAB1AG4AdABlAHIAMgA'
hide 'aAB1AG4AdABlAHIAMg'
hide 'gAdQBuAHQAZQByADIA'
hide 'oAHUAbgB0AGUAcgAyA'
hide 'aHVudGVyMg=='
hide 'longer line'
hide 'aHVudGVyMg'
hide 'aHVudGVyM'
hide 'odW50ZXIy'
hide 'one&apos;'
hide 'h1bnRlcj'
hide 'hunter2'
hide 'one'\'''
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
enter() {
cd / || die "cannot enter /"
rest=${1#/}
while [ -n "$rest" ]; do
c=${rest%%/*}
case $rest in
*/*) rest=${rest#*/} ;;
*) rest= ;;
esac
to=${PWD%/}/$c
if [ -L "./$c" ]; then
[ "$(stat -c %u -- "./$c")" = 0 ] || die "$to is a symbolic link that does not belong to root"
no_swap "$to"
cd -P "./$c" || die "cannot enter $to"
continue
fi
if [ ! -e "./$c" ]; then
[ "$2" = make ] || return 1
mkdir -m 0755 "./$c" || die "cannot make $to"
fi
cd -P "./$c" || die "cannot enter $to"
[ "$PWD" = "$to" ] || die "$to was changed meanwhile"
done
}
no_swap() {
set -- "$1" $(stat -c '%A %u' .)
if [ "$3" = 0 ] || [ "$3" = "$(id -u)" ]; then
case $2 in
?????w???[!tT] | ????????w[!tT]) ;;
*) return ;;
esac
fi
die "$1 is a symbolic link in a directory that others may write to"
}
no_directory() {
if [ -d "./$1" ] && [ ! -L "./$1" ]; then die "${PWD%/}/$1 is a directory"; fi
}
digit() {
c=${1%"${1#?}"}
if [ "$c" = = ]; then return 1; fi
c=${A%%"$c"*}
v=$((v * 64 + ${#c}))
}
decode_here() {
A=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/
while IFS= read -r l; do
out=
while [ -n "$l" ]; do
q=${l%"${l#????}"} l=${l#????} v=0
digit "$q"
digit "${q#?}"
out=$out\\0$((v >> 10))$((v >> 7 & 7))$((v >> 4 & 7))
digit "${q#??}" || break
out=$out\\0$((v >> 8 & 3))$((v >> 5 & 7))$((v >> 2 & 7))
digit "${q#???}" || break
out=$out\\0$((v >> 6 & 3))$((v >> 3 & 7))$((v & 7))
done
printf %b "$out"
done
}
decode() {
if command -v base64 >/dev/null 2>&1; then
base64 -d
elif command -v openssl >/dev/null 2>&1; then
openssl base64 -d
else
decode_here
fi
}
attributes() {
if [ -f "./$1" ] && [ ! -L "./$1" ]; then
kept=$(stat -c '%a %u %g' -- "./$1") || die "cannot look at ${PWD%/}/$1"
set -- $kept
mode=${mode:-$1} group=${group:-${3}}
owner=${owner:-$2}
fi
mode=${mode:-644}
}
own() {
if [ -n "$owner$group" ]; then
have=$(stat -L -c '%u %g' -- "$1") || die "cannot look at the new file"
want=${owner:-${have% *}}:${group:-${have#* }}
if [ "$want" != "${have% *}:${have#* }" ]; then chown -- "$want" "$1" || die "cannot give the file to $want"; fi
fi
chmod "$mode" "$1" || die "cannot set mode $mode"
}
place() {
mv -fT -- "./$1" "./$2" 2>/dev/null && return
if [ -L "./$2" ]; then rm -f -- "./$2"; fi
no_directory "$2"
mv -f -- "./$1" "./$2" || die "cannot rename to ${PWD%/}/$2"
}
open_new() {
if [ -e "./$1" ] || [ -L "./$1" ]; then rm -f -- "./$1"; fi
set -C
{ command exec 9>"./$1"; } 2>/dev/null || die "cannot make a new file in $PWD: is the file system read-only?"
set +C
made=$1
}
link_new() {
rm -f -- "./$2"
[ "$(stat -c %h "$1")" = 1 ] && ln -- "$1" "./$2" 2>/dev/null || return 1
[ "./$2" -ef "$1" ] || return 1
exec 9<"$1"
made=$2
}
deliver_file() {
write=$1
shift
enter "$1" make
no_directory "$2"
mode=$5 owner=$6 group=$7
missent="what was written in $1 is not what was sent: is the disk full?"
attributes "$2"
[ -w . ] || die "user $(id -un) may not write in $1, or it is read-only"
if [ "$write" = move ] && link_new "$b" "$3"; then
write=:
else
open_new "$3"
fi
new=/proc/$$/fd/9
if [ ! -e "$new" ]; then new=./$3; fi
"$write" >&9 || die "cannot write the new file in $1: is the disk full?"
sum=$(sha256sum <"$new") || die "cannot read the new file in $1"
[ "${sum%% *}" = "$4" ] || die "$missent"
own "$new"
flush "$new"
exec 9>&-
place "$3" "$2"
made=
flush .
if [ -e /sys/fs/selinux/enforce ] && command -v restorecon >/dev/null 2>&1; then restorecon -- "./$2"; fi
cd /
}
put_file() {
deliver_file decode "$@"
}
place_file() {
verb=$1
shift
b=$S/blobs/$4
if [ ! -f "$b" ]; then
b=$1/$2
[ -f "$b" ] && sum=$(sha256sum <"$b") && [ "${sum%% *}" = "$4" ] ||
die "the content for $1/$2 is not staged on the host (any more)"
verb=copy
fi
deliver_file "$verb" "$@"
if [ "$verb" = move ]; then rm -f "$b"; fi
}
copy() {
cat "$b"
}
move() {
cat "$b"
}
remove_file() {
enter "$1" find || return 0
no_directory "$2"
rm -f -- "./$3" "./$2" || die "cannot remove $1/$2"
flush .
cd /
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
step_0() {
claim "$S/marks/96ffb7097479e337c25e36a3660882e9eee7c3a711ff210d0838d290c3da7d7e" 'file//etc/it'\''s.conf' 'c-1' 'u-1' 'shop/ledger' true
}
step_1() {
put_file '/etc' 'it'\''s.conf' .isthmus-6c388fddb56999a6 05a052df7835aa3c868f52e36b5ad50bda86cfda2db725581de3e19e51cc0ec8 '640' 'root' 'ledger' <<'ISTHMUS_CONTENT'
cGFzc3dvcmQgPSBodW50ZXIyCnBhc3N3b3JkID0gaHVudGVyMgpwYXNzd29yZCA9IGh1bnRlcjIK
cGFzc3dvcmQgPSBodW50ZXIyCnBhc3N3b3JkID0gaHVudGVyMgo=
ISTHMUS_CONTENT
}
step_2() {
put_file '/etc' 'empty' .isthmus-137bb7bc116a8f66 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 '' '' '' <<'ISTHMUS_CONTENT'
ISTHMUS_CONTENT
}
step_3() {
remove_file '/etc' 'old' .isthmus-0daf92e1419bb514
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
exit 0
}
"$1"
}
isthmus_job "$1"
