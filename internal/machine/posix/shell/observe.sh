# problem NUMBER TEXT: what a failed command said about a check.
problem() {
	case $2 in
	*'Permission denied'* | *'Operation not permitted'* | *'Access denied'*) printf 'p %s AccessDenied\n' "$1" ;;
	*) printf 'p %s Failed %.200s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')" ;;
	esac
}
