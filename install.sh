#!/bin/sh
# Installs, upgrades and removes the gateway. docs/install.md tells the whole of it.
#
# For any POSIX shell with the usual tools (dash, bash, busybox). Everything is in functions and main is called on
# the last line, so a script that was cut short on its way does nothing.
set -eu

usage() {
    cat <<'TEXT'
Usage: ./install.sh [--from SOURCE | --binary FILE] [--prefix DIR | --user] [--no-service] [--upgrade]
       ./install.sh --uninstall [--purge] [--prefix DIR | --user]

Installs the gateway from the folder that this script is in: a release, or a checkout, which it builds.
As root it also makes the service and its user. It never starts a service that was not running before.

What to install
    --from SOURCE      a release folder, a release tarball (.tar.gz), or the https:// address of one; only an
                       address makes it use the network
    --sha256 HEX       what the tarball must hash to; else SHA256SUMS beside it says so
    --public-key FILE  minisign key that must have signed the release; else the key of the installed release, if
                       that has one
    --binary FILE      this binary, in place of the release's own

Where
    --prefix DIR       default: /usr/local. Another folder than /usr and /usr/local holds everything: DIR/bin,
                       DIR/etc/gateway, DIR/var/lib/gateway, with no service and no user
    --user             for the calling user only: ~/.local, ~/.config/gateway, and a unit for 'systemctl --user'
    --no-service       no unit and no user
    --root DIR         into the file system of another machine, mounted at DIR: files only

What else
    --upgrade          replace an installed version: backs the data up, and goes back if the new version does not
                       become ready. Also installs where there is none
    --wait SECONDS     how long the new version may take to become ready (default: 60)
    --uninstall        remove what was installed; configuration, data and backups stay
    --purge            with --uninstall: remove those too, and the service's user
    --help             print this

Exit codes: 0 done (or nothing to do), 1 failed, with everything as it was, 2 wrong arguments.
TEXT
}

say() {
    printf '%s\n' "$*"
}

warn() {
    printf 'install.sh: %s\n' "$*" >&2
}

fail() {
    warn "$@"
    exit 1
}

misuse() {
    printf 'install.sh: %s\nTry ./install.sh --help\n' "$*" >&2
    exit 2
}

there() {
    command -v "$1" >/dev/null 2>&1
}

# Prints the path from the root.
absolute() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s/%s\n' "$PWD" "$1" ;;
    esac
}

# A folder for what is needed on the way; finish removes it.
scratch_folder() {
    if [ -z "$scratch" ]; then scratch=$(mktemp -d) || fail "can not make a temporary folder"; fi
}

# ---------------------------------------------------------------------------------------------------------------
# What is installed: finding it, and checking that it is what was released.

# verify_sums FOLDER: every file of a release is listed in its SHA256SUMS, and is as listed.
verify_sums() {
    there sha256sum || fail "sha256sum is not there; without it a release can not be checked"
    scratch_folder
    (cd "$1" && find . ! -type d ! -type f) >"$scratch/strange"
    [ ! -s "$scratch/strange" ] || fail "$1 holds something that is neither a file nor a folder; nothing was changed"
    (cd "$1" && find . -type f) | sed 's|^\./||' | grep -v -x -e SHA256SUMS -e SHA256SUMS.minisig |
        LC_ALL=C sort >"$scratch/present"
    sed 's/^[0-9a-f]*  //' "$1/SHA256SUMS" | LC_ALL=C sort >"$scratch/listed"
    cmp -s "$scratch/present" "$scratch/listed" ||
        fail "$1 does not hold exactly the files that its SHA256SUMS lists; nothing was changed"
    (cd "$1" && sha256sum -c SHA256SUMS) >"$scratch/checked" 2>&1 ||
        fail "a checksum is wrong, so this is not what was released; nothing was changed:
$(grep -v ': OK$' "$scratch/checked")"
}

# verify_signature FOLDER: by the key that was named, else by the one that the installed release brought.
verify_signature() {
    key=$public_key
    if [ -z "$key" ] && [ -f "$root$library/release.pub" ]; then key=$root$library/release.pub; fi
    if [ -z "$key" ]; then return 0; fi
    [ -f "$key" ] || fail "$key is not there"
    if ! there minisign; then
        [ -z "$public_key" ] || fail "minisign is not there; without it --public-key can not be checked"
        say "unchecked  the signature (minisign is not there)"
        return 0
    fi
    [ -f "$1/SHA256SUMS.minisig" ] || fail "the release is not signed, but $key expects a signature; nothing was changed"
    minisign -V -q -p "$key" -m "$1/SHA256SUMS" >/dev/null 2>&1 ||
        fail "the signature is not by $key; nothing was changed"
    say "verified   the signature, by $key"
}

# verify_tarball FILE SUMS: by --sha256, else by SUMS if that is there. Says whether it could.
verify_tarball() {
    there sha256sum || fail "sha256sum is not there; without it a release can not be checked"
    expected=$sha256
    if [ -z "$expected" ] && [ -f "$2" ]; then
        expected=$(awk -v name="$(basename "$1")" '$2 == name || $2 == "*" name { print $1; exit }' "$2")
        [ -n "$expected" ] || fail "$2 does not list $(basename "$1"); nothing was changed"
    fi
    if [ -z "$expected" ]; then return 1; fi
    actual=$(sha256sum "$1" | cut -d ' ' -f 1)
    [ "$actual" = "$expected" ] || fail "$1 has the SHA-256 $actual, not $expected; nothing was changed"
    say "verified   the checksum of $(basename "$1")"
}

download() {
    if there curl; then
        curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' --max-time 600 \
            --output "$2" "$1"
    elif there wget; then
        wget -q -O "$2" "$1"
    else
        fail "neither curl nor wget is there"
    fi
}

# unpack TARBALL: makes its one folder the source. Nothing in it may lead outside of it.
unpack() {
    scratch_folder
    tar -tzf "$1" >"$scratch/names" 2>/dev/null || fail "$1 is not a .tar.gz"
    if grep -q -e '^/' -e '^\.\./' -e '/\.\./' -e '/\.\.$' "$scratch/names" ||
        [ "$(sed 's|/.*||' "$scratch/names" | sort -u | wc -l)" -ne 1 ]; then
        fail "$1 is no release: one folder is expected, and nothing outside of it"
    fi
    mkdir "$scratch/unpacked"
    tar -xzf "$1" -C "$scratch/unpacked" || fail "can not unpack $1"
    source=$scratch/unpacked/$(head -n 1 "$scratch/names" | sed 's|/.*||')
    [ -f "$source/SHA256SUMS" ] || fail "$1 is no release: it has no SHA256SUMS"
}

# Sets $source to the folder to install from, checked if it is a release, and $binary.
find_source() {
    case $from in
        '') source=$(cd "$(dirname "$0")" && pwd) ;;
        https://*)
            scratch_folder
            name=$(basename "$from")
            download "$from" "$scratch/$name" || fail "can not download $from"
            if [ -z "$sha256" ]; then
                download "$(dirname "$from")/SHA256SUMS" "$scratch/SHA256SUMS" ||
                    fail "there is no SHA256SUMS beside $from; give --sha256"
            fi
            verify_tarball "$scratch/$name" "$scratch/SHA256SUMS"
            unpack "$scratch/$name"
            ;;
        *://*) misuse "only https:// addresses are taken, not '$from'" ;;
        *)
            from=$(absolute "$from")
            if [ -d "$from" ]; then
                source=$from
            elif [ -f "$from" ]; then
                verify_tarball "$from" "$(dirname "$from")/SHA256SUMS" ||
                    warn "$from itself was not checked: there is no SHA256SUMS beside it, and no --sha256"
                unpack "$from"
            else
                fail "$from is not there"
            fi
            ;;
    esac
    if [ -f "$source/SHA256SUMS" ]; then
        verify_sums "$source"
        verify_signature "$source"
        say "verified   every file of $(basename "$source")"
        if [ -z "$binary" ]; then binary=$source/gateway; fi
    elif [ -n "$public_key" ]; then
        fail "$source is no release, so no key has signed it"
    fi
    [ -f "$source/config.example.toml" ] || fail "$source is neither a release nor a checkout"
    if [ -z "$binary" ]; then build; fi
    [ -f "$binary" ] || fail "$binary is not there"
}

build() {
    [ -f "$source/Cargo.toml" ] || fail "$source is neither a release nor a checkout"
    there cargo || fail "cargo is not there. Install Rust (https://rustup.rs), or build as the
user who has it (cargo build --release --locked) and run: $0 --binary target/release/gateway"
    say "building   $source (cargo build --release --locked)"
    (cd "$source" && cargo build --release --locked) || fail "the build failed"
    target=${CARGO_TARGET_DIR:-target}
    case $target in
        /*) binary=$target/release/gateway ;;
        *) binary=$source/$target/release/gateway ;;
    esac
}

# ---------------------------------------------------------------------------------------------------------------
# Putting files in their places. What is there in the end is written down in $library/manifest, by which an upgrade
# removes what a new version does not have any more, and --uninstall everything. Lines: 'file PATH', 'folder PATH'
# (made by this script), 'data PATH', 'user NAME'.

# note KIND VALUE: a line for the manifest of now.
note() {
    printf '%s %s\n' "$1" "$2" >>"$scratch/manifest"
}

# Makes a folder and those above it, and notes which were not there.
make_folder() {
    if [ -d "$root$1" ]; then return 0; fi
    make_folder "$(dirname "$1")"
    mkdir "$root$1" 2>/dev/null || fail "can not make $root$1; use sudo, or --user, or --prefix with a folder of yours"
    note folder "$1"
}

# put FILE MODE TARGET: installs by renaming, so that a running binary is not written to and nobody sees half a
# file. Says what happened.
put() {
    note file "$3"
    if [ -f "$root$3" ] && cmp -s "$1" "$root$3"; then
        say "unchanged  $root$3"
        return 0
    fi
    make_folder "$(dirname "$3")"
    keep_for_undo "$3"
    new=$root$3.new.$$
    { cp "$1" "$new" && chmod "$2" "$new" && mv -f "$new" "$root$3"; } || {
        rm -f "$new"
        fail "can not write to $(dirname "$root$3"); use sudo, or --user, or --prefix with a folder of yours"
    }
    say "installed  $root$3"
}

# remove_file PATH: for files that were installed.
remove_file() {
    if [ -f "$root$1" ] || [ -L "$root$1" ]; then
        keep_for_undo "$1"
        rm -f "$root$1"
        say "removed    $root$1"
    fi
}

# keep_for_undo PATH: the old file is put by, in an upgrade with the backup; undo_files brings it back.
keep_for_undo() {
    if [ -z "$undo" ]; then return 0; fi
    if [ -f "$root$1" ]; then
        mkdir -p "$undo/files$(dirname "$1")"
        cp -p "$root$1" "$undo/files$1"
    fi
    printf '%s\n' "$1" >>"$undo/changed"
}

undo_files() {
    if [ ! -f "$undo/changed" ]; then return 0; fi
    if grep -q '^data ' "$scratch/manifest"; then rmdir "$root$data" 2>/dev/null || true; fi
    while IFS= read -r path; do
        if [ -f "$undo/files$path" ]; then
            cp -p "$undo/files$path" "$root$path.new.$$" && mv -f "$root$path.new.$$" "$root$path"
        else
            rm -f "$root$path"
        fi
    done <"$undo/changed"
    grep '^folder ' "$scratch/manifest" | LC_ALL=C sort -r | while read -r _ path; do
        # What the backup keeps in being is noted, for the day when everything is removed.
        if ! rmdir "$root$path" 2>/dev/null && [ -d "$root$path" ] && [ -f "$root$library/manifest" ] &&
            ! grep -q -x -F "folder $path" "$root$library/manifest"; then
            printf 'folder %s\n' "$path" >>"$root$library/manifest"
        fi
    done
}

# put_all SUFFIX MODE FOLDER GLOB...: of the files that are there.
put_all() {
    folder=$3
    mode=$2
    suffix=$1
    shift 3
    for file in "$@"; do
        if [ -f "$file" ]; then put "$file" "$mode" "$folder/$(basename "$file")$suffix"; fi
    done
}

install_files() {
    put "$binary" 0755 "$prefix/bin/gateway"
    if [ -e "$root$config" ]; then
        say "kept       $root$config"
        note file "$config"
    else
        if [ "$data" = /var/lib/gateway ]; then
            cp "$source/config.example.toml" "$scratch/config.toml"
        else
            sed "s|^#data_dir = .*|data_dir = \"$data\"|" "$source/config.example.toml" >"$scratch/config.toml"
        fi
        put "$scratch/config.toml" 0644 "$config"
    fi
    documents=$prefix/share/doc/gateway
    put_all '' 0644 "$documents" "$source/LICENSE" "$source/THIRD-PARTY-LICENSES" "$source/sbom.cdx.json" \
        "$source/README.md" "$source/CHANGELOG.md" "$source"/docs/*.md
    put_all '' 0644 "$documents" "$source"/packaging/prometheus-alerts.yml "$source"/packaging/grafana-dashboard.json
    put "$source/config.example.toml" 0644 "$documents/config.example.toml"
    put_all '' 0644 "$prefix/share/man/man1" "$source"/man/*.1 "$source"/packaging/man/*.1
    for folder in "$source/completions" "$source/packaging/completions"; do
        if [ -f "$folder/gateway.bash" ]; then
            put "$folder/gateway.bash" 0644 "$prefix/share/bash-completion/completions/gateway"
        fi
        if [ -f "$folder/_gateway" ]; then
            put "$folder/_gateway" 0644 "$prefix/share/zsh/site-functions/_gateway"
        fi
        if [ -f "$folder/gateway.fish" ]; then
            put "$folder/gateway.fish" 0644 "$prefix/share/fish/vendor_completions.d/gateway.fish"
        fi
    done
    # By which an operator without the release can uninstall.
    put "$source/install.sh" 0755 "$library/install.sh"
    put_all '' 0644 "$library" "$source/release.pub"
}

# Removes what the last version had and this one has not, then writes the manifest.
finish_manifest() {
    note file "$library/manifest"
    old=$root$library/manifest
    if [ -f "$old" ]; then
        grep -e '^folder ' -e '^data ' -e '^user ' "$old" >>"$scratch/manifest" || true
        grep '^file ' "$old" | while read -r _ path; do
            grep -q -x -F "file $path" "$scratch/manifest" || remove_file "$path"
        done
    fi
    make_folder "$library"
    LC_ALL=C sort -u "$scratch/manifest" >"$scratch/sorted"
    put "$scratch/sorted" 0644 "$library/manifest"
}

# ---------------------------------------------------------------------------------------------------------------
# The service.

find_manager() {
    manager=none
    if [ "$kind" = portable ] || [ "$service" = no ] || [ -n "$root" ]; then return 0; fi
    if [ "$kind" = user ]; then
        if there systemctl && systemctl --user show-environment >/dev/null 2>&1; then manager=systemd-user; fi
    elif [ -d /run/systemd/system ]; then
        manager=systemd
    elif [ -d /run/openrc ] && there rc-service; then
        manager=openrc
    fi
}

manage() {
    case $manager in
        systemd) systemctl "$1" gateway ;;
        systemd-user) systemctl --user "$1" gateway ;;
        openrc) rc-service gateway "$1" ;;
    esac
}

service_runs() {
    case $manager in
        systemd) systemctl --quiet is-active gateway ;;
        systemd-user) systemctl --user --quiet is-active gateway ;;
        openrc) rc-service --quiet gateway status >/dev/null 2>&1 ;;
        *) false ;;
    esac
}

# What a package manager installed is for that to replace.
refuse_package() {
    if [ "$kind" != system ] || [ "$prefix" != /usr ]; then return 0; fi
    if [ -f "$root/var/lib/dpkg/info/gateway.list" ] || { [ -z "$root" ] && there rpm && rpm -q --quiet gateway; }; then
        fail "the gateway was installed as a package; upgrade it by its package manager. Nothing was changed"
    fi
}

# in_root COMMAND...: for what changes users, there.
in_root() {
    if [ -n "$root" ]; then chroot "$root" "$@"; else "$@"; fi
}

user_exists() {
    grep -q '^gateway:' "$root/etc/passwd" 2>/dev/null
}

make_user() {
    if user_exists; then return 0; fi
    if in_root sh -c 'command -v useradd' >/dev/null 2>&1; then
        in_root useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway
    elif in_root sh -c 'command -v adduser' >/dev/null 2>&1; then
        in_root addgroup -S gateway
        in_root adduser -S -D -H -h /nonexistent -s /sbin/nologin -G gateway gateway
    else
        warn "the user gateway was not made: neither useradd nor adduser is there"
        return 0
    fi
    note user gateway
    say "created    user gateway"
}

write_user_unit() {
    type=$(sed -n 's/^Type=//p' "$source/packaging/gateway.service")
    cat <<TEXT
# The gateway for one user, under that user's systemd. Local changes belong in a drop-in
# (systemctl --user edit gateway).

[Unit]
Description=Model gateway

[Service]
Type=$type
ExecStart="$prefix/bin/gateway" serve --config "$config"
ExecReload=/bin/kill -HUP \$MAINPID
Restart=on-failure
RestartSec=1
TimeoutStopSec=45
UMask=0077
LimitNOFILE=65536
LimitCORE=0
NoNewPrivileges=yes

[Install]
WantedBy=default.target
TEXT
}

install_service() {
    unit=no
    if [ "$service" = no ] || [ "$kind" = portable ]; then return 0; fi
    if [ "$kind" = user ]; then
        write_user_unit >"$scratch/gateway.service"
        put "$scratch/gateway.service" 0644 "${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/gateway.service"
        unit=systemd
    else
        make_user
        if [ -e "$root/usr/lib/systemd/systemd" ] || [ -e "$root/lib/systemd/systemd" ]; then
            sed "s|/usr/local/bin/gateway|$prefix/bin/gateway|" "$source/packaging/gateway.service" \
                >"$scratch/gateway.service"
            put "$scratch/gateway.service" 0644 /etc/systemd/system/gateway.service
            unit=systemd
        elif [ -e "$root/sbin/openrc-run" ] && [ -f "$source/packaging/gateway.openrc" ]; then
            sed "s|/usr/local/bin/gateway|$prefix/bin/gateway|" "$source/packaging/gateway.openrc" >"$scratch/openrc"
            put "$scratch/openrc" 0755 /etc/init.d/gateway
            unit=openrc
        fi
    fi
    case $manager in
        systemd) systemctl daemon-reload ;;
        systemd-user) systemctl --user daemon-reload ;;
    esac
}

# The data folder, for the one that will run the gateway.
make_data_folder() {
    note data "$data"
    if [ -d "$root$data" ]; then return 0; fi
    make_folder "$(dirname "$data")"
    mkdir -m 0700 "$root$data" || fail "can not make $root$data"
    if [ "$kind" = system ] && [ "$service" = yes ] && user_exists; then
        # By number: the names of a machine at --root are not those of this one.
        chown "$(sed -n 's/^gateway:[^:]*:\([0-9]*\):\([0-9]*\):.*/\1:\2/p' "$root/etc/passwd")" "$root$data"
    fi
    say "created    $root$data"
}

# ---------------------------------------------------------------------------------------------------------------
# Upgrade: nothing of the old version is lost before the new one has shown that it works.

# as_owner COMMAND: runs a shell command as the one who owns the data, in the background of it if it says so.
as_owner() {
    if [ "$owner" != "$(id -un)" ]; then
        su -s /bin/sh -c "$1" "$owner" </dev/null
    else
        sh -c "$1" </dev/null
    fi
}

# ready: whether the gateway on this host answers that it is ready.
ready() {
    if there curl; then
        curl --fail --silent --output /dev/null --noproxy '*' --max-time 2 "$ops/readyz"
    elif there wget; then
        # Not by its own -T, with which the static busybox of Debian 12 crashes.
        http_proxy='' timeout 5 wget -q -O /dev/null "$ops/readyz" 2>/dev/null
    elif there bash; then
        address=${ops#http://}
        host=${address%:*}
        host=${host#[}
        # shellcheck disable=SC2016 # Bash is to expand it.
        bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n" >&3 &&
            read -r -t 2 _ status _ <&3 && [ "$status" = 200 ]' "${host%]}" "${address##*:}" 2>/dev/null
    else
        fail "neither curl, wget nor bash is there to ask whether the gateway is ready; nothing was changed"
    fi
}

# start_new: starts the service if it ran before, else the gateway for a moment, to see whether it would run.
start_new() {
    if [ "$ran" = yes ]; then
        # Without waiting for the notice that it is ready: how long that may take is --wait's to say.
        case $manager in
            systemd) systemctl --no-block start gateway ;;
            systemd-user) systemctl --user --no-block start gateway ;;
            openrc) rc-service gateway start ;;
        esac
        return
    fi
    folder=$live_data
    if [ -z "$(ls -A "$folder" 2>/dev/null)" ]; then
        # There is no data yet, so the trial makes none there.
        folder=$scratch/trial
        mkdir -p "$folder"
        chown "$owner" "$folder"
        chmod 0711 "$scratch"
    fi
    : >"$scratch/log"
    : >"$scratch/pid"
    chown "$owner" "$scratch/pid"
    chmod 0711 "$scratch"
    as_owner "echo \$\$ >'$scratch/pid'; exec '$prefix/bin/gateway' serve --config '$config' --data-dir '$folder'" \
        >"$scratch/log" 2>&1 &
    trial=$!
}

# Ends what start_new started for a moment.
end_trial() {
    if [ -z "$trial" ]; then return 0; fi
    # The file is the owner's to write, so what it says is signalled as the owner and never as root.
    pid=
    waited=0
    while [ -z "$pid" ] && [ "$waited" -lt 5 ] && kill -0 "$trial" 2>/dev/null; do
        pid=$(cat "$scratch/pid")
        if [ -z "$pid" ]; then sleep 1; fi
        waited=$((waited + 1))
    done
    case $pid in
        '' | *[!0-9]* | 0 | 1) kill -TERM "$trial" 2>/dev/null || true ;;
        *) as_owner "kill -TERM $pid" 2>/dev/null || true ;;
    esac
    wait "$trial" 2>/dev/null || true
    trial=
}

started_still_runs() {
    if [ "$ran" = yes ]; then
        # Between two tries of the manager it counts as running: a start limit ends that.
        case $manager in
            systemd) ! systemctl --quiet is-failed gateway ;;
            systemd-user) ! systemctl --user --quiet is-failed gateway ;;
            *) true ;;
        esac
    else
        kill -0 "$trial" 2>/dev/null
    fi
}

# becomes_ready: starts it and waits.
becomes_ready() {
    start_new || return 1
    waited=0
    until ready && { [ "$ran" = no ] || service_runs; }; do
        started_still_runs || return 1
        [ "$waited" -lt "$patience" ] || return 1
        waited=$((waited + 1))
        sleep 1
    done
}

show_log() {
    case $manager:$ran in
        systemd:yes) journalctl --unit gateway --lines 20 --no-pager 2>/dev/null | sed 's/^/    /' >&2 ;;
        systemd-user:yes) journalctl --user --unit gateway --lines 20 --no-pager 2>/dev/null | sed 's/^/    /' >&2 ;;
        *:no) if [ -f "$scratch/log" ]; then tail -n 20 "$scratch/log" | sed 's/^/    /' >&2; fi ;;
    esac
}

# Reads what the installed version says about itself, and has the new one look at the configuration.
look_before_upgrade() {
    said=$("$root$prefix/bin/gateway" check-config --config "$config" 2>/dev/null) || said=
    if ! new_said=$("$binary" check-config --config "$config" 2>&1); then
        fail "the new version does not take $config; nothing was changed:
$new_said"
    fi
    [ -n "$said" ] || said=$new_said
    ops=$(printf '%s\n' "$new_said" | sed -n "s|.*operators' listener on \(http://[^ ]*[0-9]\)\..*|\1|p")
    live_data=$(printf '%s\n' "$said" | sed -n 's|^Keeps its state in \(.*\)\.$|\1|p')
    { [ -n "$ops" ] && [ -n "$live_data" ]; } ||
        fail "the new version does not say where it would listen and keep its state; nothing was changed"
    if [ -d "$live_data" ]; then
        # Behind a link the copy would be the link, and the way back would empty what it leads to.
        live_data=$(cd "$live_data" && pwd -P) || fail "can not enter the data folder; nothing was changed"
    fi
    owner=$(id -un)
    if [ -d "$live_data" ]; then
        # shellcheck disable=SC2012 # POSIX has no stat, and the owner's name stands before the folder's.
        owner=$(ls -ld "$live_data" | awk '{ print $3 }')
    elif [ "$kind" = system ] && user_exists; then
        owner=gateway
    fi
    ran=no
    if service_runs; then
        ran=yes
    elif ready; then
        fail "a gateway is running at $ops that no service manager runs. Stop it first; nothing was changed"
    fi
    if [ -d "$live_data" ]; then
        needed=$(du -sk "$live_data" | cut -f 1)
        place=$backups
        while [ ! -d "$place" ]; do place=$(dirname "$place"); done
        # Where df knows nothing of the place, the copy itself will say that it does not fit.
        free=$(df -Pk "$place" 2>/dev/null | awk 'NR == 2 { print $4 }') || free=
        [ -z "$free" ] || [ "$free" -gt $((needed + 65536)) ] ||
            fail "the backup needs $needed KiB in $place, where $free are free; nothing was changed"
    fi
}

# A copy of the stopped data folder: exact to the last acknowledged change, with the master key if that is there.
# `gateway admin backup` is for backups without a stop; what was acknowledged after one would be lost by going back.
back_up() {
    make_folder "$backups"
    chmod 0700 "$backups"
    note folder "$backups"
    backup=$backups/$(date -u +%Y%m%dT%H%M%SZ)-$installed_version
    mkdir "$backup" || fail "can not make $backup"
    undo=$backup
    cp -p "$config" "$backup/config.toml"
    if [ "$ran" = yes ]; then
        manage stop || fail "the service does not stop; nothing was changed"
        say "stopped    the service"
    fi
    if [ -d "$live_data" ]; then
        cp -a "$live_data" "$backup/data.partial" || fail "the backup failed"
        rm -f "$backup/data.partial/admin.sock"
        mv "$backup/data.partial" "$backup/data"
    fi
    sync
    say "backed up  $live_data to $backup"
}

# Called on the way out of an upgrade that did not end well.
go_back() {
    upgrading=no
    set +e
    # An impatient second signal must not leave it half way.
    trap '' HUP INT TERM
    show_log
    end_trial
    if [ "$ran" = yes ]; then manage stop; fi
    undo_files
    case $manager in
        systemd) systemctl daemon-reload ;;
        systemd-user) systemctl --user daemon-reload ;;
    esac
    # Only what the new version may have written to; and not from a backup that was cut short.
    if [ "$touched" = yes ] && [ -d "$backup/data" ] && [ ! -L "$backup/data" ]; then
        cp -a "$live_data" "$backup/data-of-the-new-version" || rm -rf "$backup/data-of-the-new-version"
        # The folder itself stays: it may be a mount point. Not every find can delete.
        rm -rf "${live_data:?}"/* "$live_data"/.[!.]* "$live_data"/..?*
        if ! { [ -z "$(ls -A "$live_data")" ] && cp -a "$backup/data/." "$live_data"; }; then
            warn "the data folder could not be put back: copy what is in $backup/data to $live_data"
        fi
    fi
    if [ "$ran" = yes ]; then
        case $manager in systemd) systemctl reset-failed gateway ;; systemd-user) systemctl --user reset-failed gateway ;; esac
        if becomes_ready; then
            warn "went back to version $installed_version, which is ready again; what the new one left is in $backup"
        else
            show_log
            warn "went back to version $installed_version, but it does not become ready: look at its log; the backup is $backup"
        fi
    else
        warn "went back to version $installed_version; what the new one left is in $backup"
    fi
}

# Keeps the backups of the last three upgrades.
prune_backups() {
    find "$backups" -mindepth 1 -maxdepth 1 -type d -name '*Z-*' | LC_ALL=C sort -r | tail -n +4 |
        while IFS= read -r old; do
            rm -rf "$old"
            say "removed    $old"
        done
}

upgrade() {
    look_before_upgrade
    upgrading=yes
    back_up
    install_files
    install_service
    finish_manifest
    touched=yes
    if ! becomes_ready; then
        warn "version $new_version does not become ready"
        exit 1
    fi
    end_trial
    upgrading=no
    prune_backups
}

# ---------------------------------------------------------------------------------------------------------------

next_steps() {
    say
    gateway=$prefix/bin/gateway
    as="sudo -u gateway"
    if ! there sudo; then as="su -s /bin/sh gateway -c"; fi
    if [ -n "$root" ]; then
        say "Next: start that machine, then there: systemctl enable --now gateway"
    elif [ "$unit" = no ]; then
        say "Next:"
        say "    export GATEWAY_CONFIG=$config"
        say "    $gateway serve"
        say "    $gateway admin user create you@example.com --role admin"
    elif [ "$kind" = user ]; then
        say "Next: read $config, then"
        say "    systemctl --user enable --now gateway"
        say "    GATEWAY_CONFIG=$config $gateway admin user create you@example.com --role admin"
    else
        say "Next: read $config, then"
        if [ "$unit" = openrc ]; then
            say "    rc-update add gateway && rc-service gateway start"
        else
            say "    systemctl enable --now gateway"
        fi
        if there sudo; then
            say "    $as $gateway admin user create you@example.com --role admin"
        else
            say "    $as '$gateway admin user create you@example.com --role admin'"
        fi
    fi
    say "To try it with no configuration at all: $gateway serve --demo"
    say "To remove it: $library/install.sh --uninstall$where"
}

uninstall() {
    manifest=$root$library/manifest
    if [ ! -f "$manifest" ]; then
        if [ -x "$root$prefix/bin/gateway" ]; then
            fail "$root$prefix/bin/gateway was not installed by this script; a package is removed by its package manager"
        fi
        say "Nothing is installed at $root$prefix."
        return 0
    fi
    scratch_folder
    cp "$manifest" "$scratch/installed"
    find_manager
    if [ "$manager" != none ] && grep -q -e '^file .*/gateway.service$' -e '^file /etc/init.d/gateway$' "$scratch/installed"; then
        case $manager in
            systemd) systemctl disable --now gateway >/dev/null 2>&1 || true ;;
            systemd-user) systemctl --user disable --now gateway >/dev/null 2>&1 || true ;;
            openrc)
                rc-service gateway stop >/dev/null 2>&1 || true
                rc-update del gateway >/dev/null 2>&1 || true
                ;;
        esac
        say "stopped    the service"
    elif [ "$purge" = yes ] && [ -z "$root" ]; then
        ops=$("$prefix/bin/gateway" check-config --config "$config" 2>/dev/null |
            sed -n "s|.*operators' listener on \(http://[^ ]*[0-9]\)\..*|\1|p") || true
        if [ -n "$ops" ] && ready; then fail "a gateway is running at $ops; stop it first. Nothing was removed"; fi
    fi
    grep '^file ' "$scratch/installed" | while read -r _ path; do
        if [ "$path" != "$config" ]; then remove_file "$path"; fi
    done
    if [ "$purge" = yes ]; then
        remove_file "$config"
        grep '^data ' "$scratch/installed" | while read -r _ path; do
            case $path in
                */gateway | */gateway/data)
                    rm -rf "$root$path"
                    say "removed    $root$path"
                    ;;
            esac
        done
        # The one that the OpenRC script writes.
        if grep -q '^file /etc/init.d/gateway$' "$scratch/installed" && [ -f "$root/var/log/gateway.log" ]; then
            rm -f "$root/var/log/gateway.log"
            say "removed    $root/var/log/gateway.log"
        fi
        if [ -d "$root$backups" ]; then
            rm -rf "$root$backups"
            say "removed    $root$backups"
        fi
        if grep -q '^user gateway$' "$scratch/installed"; then
            if in_root sh -c 'command -v userdel' >/dev/null 2>&1; then
                in_root userdel gateway
            else
                in_root deluser gateway
            fi
            say "removed    user gateway"
        fi
    fi
    grep '^folder ' "$scratch/installed" | LC_ALL=C sort -r | while read -r _ path; do
        rmdir "$root$path" 2>/dev/null || true
    done
    case $manager in
        systemd) systemctl daemon-reload ;;
        systemd-user) systemctl --user daemon-reload ;;
    esac
    if [ "$purge" = no ]; then
        say "kept       $root$config, $root$data and $root$backups, as far as there are any"
        say
        say "Next, if those are to go too: install.sh of any release, with --uninstall --purge$where"
        # By which a later --purge knows what it may remove.
        if grep -q -e '^data ' -e '^user ' "$scratch/installed"; then
            mkdir -p "$root$library"
            {
                grep -e '^folder ' -e '^data ' -e '^user ' "$scratch/installed"
                printf 'file %s\n' "$library/manifest"
            } >"$manifest"
        fi
    fi
}

# On every way out.
finish() {
    status=$?
    trap - EXIT
    if [ "$upgrading" = yes ]; then go_back; fi
    if [ "$installing" = yes ]; then
        set +e
        undo_files
        warn "nothing was installed: what had been put in place is taken away again"
    fi
    end_trial
    if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
    exit "$status"
}

places() {
    where=
    if [ "$kind" = user ]; then
        [ -n "${HOME-}" ] || misuse "--user needs \$HOME"
        prefix=$HOME/.local
        config=${XDG_CONFIG_HOME:-$HOME/.config}/gateway/config.toml
        data=${XDG_DATA_HOME:-$HOME/.local/share}/gateway
        backups=${XDG_STATE_HOME:-$HOME/.local/state}/gateway/backups
        where=' --user'
    elif [ "$prefix" = /usr/local ] || [ "$prefix" = /usr ]; then
        kind=system
        config=/etc/gateway/config.toml
        data=/var/lib/gateway
        backups=/var/backups/gateway
        if [ "$prefix" = /usr ]; then where=' --prefix /usr'; fi
    else
        kind=portable
        config=$prefix/etc/gateway/config.toml
        data=$prefix/var/lib/gateway
        backups=$prefix/var/backups/gateway
        where=" --prefix '$prefix'"
    fi
    library=$prefix/lib/gateway
    case $prefix$config$data$root in
        *[\"\'\\\|\&\$\`]* | *'
'*) misuse "quotation marks, and any of \\ | & \$ in a path are not supported" ;;
    esac
    if [ "$kind" = system ] && [ "$(id -u)" != 0 ]; then
        if [ -n "$root" ] && [ -w "$root" ]; then service=no; else
            fail "only root can install to $prefix; use sudo, or --user, or --prefix with a folder of yours"
        fi
    fi
}

main() {
    prefix=/usr/local
    root=
    binary=
    from=
    sha256=
    public_key=
    kind=
    service=yes
    mode=install
    purge=no
    patience=60
    scratch=
    backup=
    trial=
    undo=
    upgrading=no
    installing=no
    touched=no
    while [ $# -gt 0 ]; do
        case $1 in
            --prefix | --binary | --from | --sha256 | --public-key | --root | --wait)
                if [ $# -lt 2 ] || [ -z "$2" ]; then misuse "$1 needs a value"; fi
                case $1 in
                    --prefix) prefix=$(absolute "${2%/}") ;;
                    --binary) binary=$(absolute "$2") ;;
                    --from) from=$2 ;;
                    --sha256) sha256=$(printf '%s' "$2" | tr 'A-F' 'a-f') ;;
                    --public-key) public_key=$(absolute "$2") ;;
                    --root) root=$(absolute "${2%/}") ;;
                    --wait) patience=$2 ;;
                esac
                shift
                ;;
            --user) kind=user ;;
            --no-service) service=no ;;
            --upgrade) mode=upgrade ;;
            --uninstall) mode=uninstall ;;
            --purge) purge=yes ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) misuse "unknown argument '$1'" ;;
        esac
        shift
    done
    case $patience in '' | *[!0-9]*) misuse "--wait takes seconds" ;; esac
    if [ "$purge" = yes ] && [ "$mode" != uninstall ]; then misuse "--purge goes with --uninstall"; fi
    if [ "$kind" = user ] && { [ "$prefix" != /usr/local ] || [ -n "$root" ]; }; then
        misuse "--user goes with neither --prefix nor --root"
    fi
    if [ -n "$root" ] && [ ! -d "$root" ]; then misuse "$root is not a folder"; fi
    # So that the folders can be entered by those who are to run the binary.
    umask 022
    places
    trap finish EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM

    if [ "$mode" = uninstall ]; then
        uninstall
        return 0
    fi
    find_source
    scratch_folder
    : >"$scratch/manifest"
    find_manager
    refuse_package
    if ! new_version=$("$binary" --version 2>/dev/null) || [ -z "$new_version" ]; then
        # The file system of another machine may be one of another kind.
        [ -n "$root" ] || fail "$binary does not run on this machine ($(uname -sm)); nothing was changed"
    fi
    new_version=${new_version#gateway }
    installed=$root$prefix/bin/gateway
    installed_version=$("$installed" --version 2>/dev/null) || installed_version="gateway unknown"
    installed_version=${installed_version#gateway }
    if [ -f "$installed" ] && ! cmp -s "$binary" "$installed"; then
        [ "$mode" = upgrade ] ||
            fail "$installed is there, of version $installed_version; --upgrade replaces it by $new_version. Nothing was changed"
    fi
    if [ -f "$installed" ] && [ -z "$root" ] && [ -f "$config" ] && ! cmp -s "$binary" "$installed"; then
        upgrade
    else
        undo=$scratch/undo
        mkdir "$undo"
        installing=yes
        install_files
        install_service
        make_data_folder
        finish_manifest
        installing=no
    fi
    if [ -n "$backup" ]; then
        say
        say "Version $new_version replaces $installed_version: it became ready."
        if [ "$ran" = no ]; then say "The service did not run before, so it was stopped again."; fi
    else
        next_steps
    fi
}

main "$@"
