# Sourced by the other scripts. POSIX sh.

# A Go from 1.21 on can fetch the version that go.mod names; an older one cannot.
oldest_go=1.21

# at_least HAVE WANT compares versions.
at_least() {
    [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# go_version GO prints the version of that program, 1.24.4 for example.
go_version() {
    (cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) | sed -n 's/^go\([0-9][0-9.]*\).*/\1/p'
}

# find_go prints the first Go that is new enough, or fails.
find_go() {
    for candidate in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
        [ -x "$candidate" ] || continue
        version=$(go_version "$candidate")
        if [ -n "$version" ] && at_least "$version" "$oldest_go"; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}
