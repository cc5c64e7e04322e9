# download LIMIT URL: to the standard output, without the proxies, settings and
# credentials that belong to whoever we are here. One byte more than the limit tells that there is more.
download() {
	unset http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY WGETRC CURL_HOME
	if command -v curl >/dev/null 2>&1; then
		curl -q -gfsSL --noproxy '*' --proto =http,https --proto-redir =http,https --max-redirs 5 \
			--connect-timeout 20 --speed-limit 1 --speed-time 60 --url "$2"
		return
	fi
	# The only other protocol that wget could be led to goes nowhere.
	ftp_proxy=http://127.0.0.1:9/
	export ftp_proxy
	if wget --version >/dev/null 2>&1; then
		wget -q --no-config --no-netrc --max-redirect=5 --tries=1 --timeout=60 -O - -- "$2"
	else
		# Its -T ends in a crash on Debian 12; the job has a time of its own.
		wget -q -O - "$2"
	fi
}
# can_fetch URL
can_fetch() {
	if command -v curl >/dev/null 2>&1; then return; fi
	command -v wget >/dev/null 2>&1 || die "the host has neither curl nor wget to download with: install curl"
	case $1 in
	https:*) wget --version >/dev/null 2>&1 || die "the wget of this host verifies no certificates: install curl" ;;
	esac
}
# fetch_file URL LIMIT, and what deliver takes
fetch_file() {
	can_fetch "$1"
	url=$1 limit=$2
	shift 2
	deliver_file fetched "$@"
}
# fetched writes the content; what is too large ends the download.
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
