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
I=u-1-run-1
E=0000000000000000007
T=600
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
hide 'aQB0ACcAcwAgAHAAcgBvAGQA'
hide 'kAdAAnAHMAIABwAHIAbwBkA'
hide 'pAHQAJwBzACAAcAByAG8AZA'
hide 'it&apos;s prod'
hide 'it%27s%20prod'
hide 'it&#39;s prod'
hide 'aXQncyBwcm9k'
hide 'it%27s+prod'
hide 'l0J3MgcHJvZ'
hide 'pdCdzIHByb2'
hide 'it'\''s prod'
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
download() {
unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY WGETRC CURL_HOME
if command -v curl >/dev/null 2>&1; then
curl -q -gfsSL --noproxy '*' --proto =http,https --proto-redir =http,https --max-redirs 5 \
--connect-timeout 20 --speed-limit 1 --speed-time 60 --url "$2"
return
fi
ftp_proxy=http://127.0.0.1:9/
export ftp_proxy
if wget --version >/dev/null 2>&1; then
wget -q --no-config --no-netrc --max-redirect=5 --tries=1 --timeout=60 -O - -- "$2"
else
wget -q -O - "$2"
fi
}
can_fetch() {
if command -v curl >/dev/null 2>&1; then return; fi
command -v wget >/dev/null 2>&1 || die "the host has neither curl nor wget to download with: install curl"
case $1 in
https:*) wget --version >/dev/null 2>&1 || die "the wget of this host verifies no certificates: install curl" ;;
esac
}
fetch_file() {
can_fetch "$1"
url=$1 limit=$2
shift 2
deliver_file fetched "$@"
}
fetched() {
{
e=$(
{
{
download "$limit" "$url" || printf 'the download of %s failed (exit code %s)' "$url" "$?" >&4
} | head -c "$((limit + 1))" >&9
} 4>&1
)
}
size=$(wc -c <"$new")
if [ "$size" -gt "$limit" ]; then die "the file at $url is larger than $limit bytes"; fi
if [ -n "$e" ]; then die "$e"; fi
missent="the file at $url does not have the SHA-256 that it should have"
}
home() {
if [ -n "${HOME:-}" ]; then return; fi
x=$(id -un)
case $x in
*[!A-Za-z0-9._-]*) HOME=/ ;;
*) eval "HOME=~$x" ;;
esac
export HOME
}
step_0() {
place_file move '/opt/it'\''s' 'tool' .isthmus-540b5cb50e1bf55e abababababababababababababababababababababababababababababababab '755' '' ''
}
step_1() {
fetch_file 'https://files.example/app.tar?a=b&c='\''d' 1048576 '/opt' 'app.tar' .isthmus-6a52de5f391f0739 cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd '' '' ''
}
step_2() {
L=
there() {
[ -f '/bin/sh' ] && [ -x '/bin/sh' ]
}
script() {
home
umask 022
cd /
set -- $L '/bin/sh'
export MODE='it'\''s prod'
exec "$@" <<'ISTHMUS_3e85fcd043e8c3a8170eb47a17c5dcb4'
set -e
cat <<'EOF' >/tmp/x
it's
EOF
ISTHMUS_3e85fcd043e8c3a8170eb47a17c5dcb4
}
there || die 'the host has no program /bin/sh to run the script with'
( script )
code=$?
[ "$code" = 0 ] || fail "$code" "the script ended with exit code $code"
}
step_3() {
L=
there() {
[ -f '/usr/bin/python3' ] && [ -x '/usr/bin/python3' ]
}
script() {
home
umask 022
cd /
set -- $L '/usr/bin/python3' '-'
exec "$@" <<'ISTHMUS_cc42155088fca5730758db72b2a5bca3'
print(1)
ISTHMUS_cc42155088fca5730758db72b2a5bca3
}
there || die 'the host has no program /usr/bin/python3 to run the script with'
( script )
code=$?
[ "$code" = 0 ] || fail "$code" "the script ended with exit code $code"
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
