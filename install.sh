#!/bin/sh
# Builds the gateway from this checkout and installs it. Running it again changes only what is different.
set -eu

usage() {
    cat <<'TEXT'
Usage: ./install.sh [--prefix DIR] [--binary FILE]

Builds the gateway from this checkout and installs

    PREFIX/bin/gateway              the binary
    /etc/gateway/config.toml        the example configuration, if there is no file yet
                                    (PREFIX/etc/gateway/config.toml with another prefix)
    /etc/systemd/system/gateway.service and the user 'gateway'
                                    only as root, with the default prefix, where systemd runs

    --prefix DIR     where to install (default: /usr/local)
    --binary FILE    install this binary instead of building one
    --help           print this
TEXT
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

misuse() {
    printf 'install.sh: %s\nTry ./install.sh --help\n' "$*" >&2
    exit 2
}

# Prints the path from the root.
absolute() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s/%s\n' "$PWD" "$1" ;;
    esac
}

# put FILE MODE TARGET: installs by renaming, so that a running binary is not written to and nobody sees half a
# file. Says what happened.
put() {
    if [ -f "$3" ] && cmp -s "$1" "$3"; then
        say "unchanged  $3"
        return
    fi
    mkdir -p "$(dirname "$3")" || fail "can not make $(dirname "$3"); use sudo, or --prefix with a folder of yours"
    new="$3.new.$$"
    # shellcheck disable=SC2064 # The name of now is meant.
    trap "rm -f '$new'" EXIT
    cp "$1" "$new" || fail "can not write to $(dirname "$3"); use sudo, or --prefix with a folder of yours"
    chmod "$2" "$new"
    mv -f "$new" "$3"
    trap - EXIT
    say "installed  $3"
}

build() {
    command -v cargo >/dev/null 2>&1 || fail "cargo is not there. Install Rust (https://rustup.rs), or build as the
user who has it (cargo build --release --locked) and run: $0 --binary target/release/gateway"
    say "building   $checkout (cargo build --release --locked)"
    (cd "$checkout" && cargo build --release --locked) || fail "the build failed"
    target=${CARGO_TARGET_DIR:-target}
    case $target in
        /*) binary=$target/release/gateway ;;
        *) binary=$checkout/$target/release/gateway ;;
    esac
}

install_unit() {
    if ! getent passwd gateway >/dev/null; then
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway
        say "created    user gateway"
    fi
    put "$checkout/packaging/gateway.service" 0644 /etc/systemd/system/gateway.service
    systemctl daemon-reload
}

main() {
    prefix=/usr/local
    binary=
    while [ $# -gt 0 ]; do
        case $1 in
            --prefix | --binary)
                if [ $# -lt 2 ] || [ -z "$2" ]; then misuse "$1 needs a value"; fi
                if [ "$1" = --prefix ]; then prefix=$(absolute "$2"); else binary=$(absolute "$2"); fi
                shift 2
                ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) misuse "unknown argument '$1'" ;;
        esac
    done
    # So that the folders can be entered by those who are to run the binary.
    umask 022
    checkout=$(cd "$(dirname "$0")" && pwd)

    if [ -z "$binary" ]; then build; fi
    [ -f "$binary" ] || fail "$binary is not there"
    if [ "$prefix" = /usr/local ]; then config=/etc/gateway/config.toml; else config=$prefix/etc/gateway/config.toml; fi

    put "$binary" 0755 "$prefix/bin/gateway"
    if [ -e "$config" ]; then
        say "kept       $config"
    else
        put "$checkout/config.example.toml" 0644 "$config"
    fi
    unit=no
    if [ "$prefix" = /usr/local ] && [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; then
        install_unit
        unit=yes
    fi

    say
    if [ "$unit" = yes ]; then
        say "Next: read $config, then"
        say "    systemctl enable gateway && systemctl restart gateway"
        say "    sudo -u gateway $prefix/bin/gateway admin user create you@example.com --role admin"
    else
        say "Next: set store.data_dir in $config to a folder of yours, then"
        say "    export GATEWAY_CONFIG=$config"
        say "    $prefix/bin/gateway serve"
        say "    $prefix/bin/gateway admin user create you@example.com --role admin"
    fi
    say "To try it with no configuration at all: $prefix/bin/gateway serve --demo"
}

main "$@"
