#!/usr/bin/env bash
# Runs all benchmarks and writes docs/benchmarks.md: the machine, what was compared with, and every table.
#
#   scripts/bench.sh [--only NAME[,NAME...]] [OUTPUT]        (default: docs/benchmarks.md)
#
# Run `scripts/setup.sh bench` before (`make bench` does). Takes about twenty-five minutes once everything is built; use an
# otherwise idle machine. With --only, the named ones are measured and the others' tables stay in the page as they are,
# each with its own date.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

ONLY=""
if [ "${1:-}" = --only ]; then
    ONLY="${2:?bench: --only needs the names of benchmarks}"
    shift 2
fi
readonly ONLY OUTPUT="${1:-docs/benchmarks.md}"
readonly PM2=target/bench-tools/node_modules/pm2/package.json
readonly WITHIN=600 # seconds for one benchmark; none takes nearly as long
FAILED=()
TEXT="$(mktemp)"
readonly TEXT
trap 'rm -f "$TEXT"' EXIT

# What is measured: package, benchmark, and the bar it is held to.
readonly BENCHES=(
    "ostler|failover|a dead remote endpoint is noticed within 5 s, what holds no data is served by a declared standby within 10 s, and PostgreSQL with 100,000 rows from its backup within the bare restore's own time + 10 s"
    "ostler|gap|PostgreSQL upgraded in place to another minor version: without an answer at its endpoint for less than twice its own bare restart, and no connection refused"
    "ostler|healing|kill -9 to the next answer: within 1 ms of the program's own bare start (median against median; p99 within 3 ms); through the endpoint no connect is refused; ten kills in a row without a step of a second"
    "ostler|together|1,000 instances failing together: never more under repair than allowed, and neither restarts by reflex nor remedies above their rate"
    "ostler|at_rest|1,000 instances: keeper below 6 MB, all three processes together below 30 MB (PSS), below 1 % of one core with TCP probes every 10 s"
    "ostler|rolling|0 of 250,000 idempotent requests with answers up to 64 KiB fail at 32 connections while four web instances are upgraded in waves, and while ostler itself is upgraded, again and again"
    "ostler-keeper|restart|no bar of its own: where the time between a kill and the next answer goes"
    "ostler-gateway|carry|no bar: what the gateway costs its callers, against a direct connection in the same run"
    "ostler-gateway|http|0 of 250,000 idempotent requests with answers up to 64 KiB fail while an instance is killed every second, at 32 connections and two instances; small answers and streams of 1 MiB as ratios to HAProxy and nginx"
    "ostler-journal|journal|facts stored, each durable before it is acknowledged: at least 80 % of bare SQLite doing the same rows in the same run"
    "ostler-journal|tree|the tree over all facts costs less than 5 % of what is appended without it in the same run"
    "ostler-books|year|a year of facts of 1,000 services (10 million) is folded into books in less than 20 s and within 1 GiB; books that are kept answer in less than 100 ms"
    "ostler-runtime|proof|the proof of one fact in ten million: below 2 KiB, checked in less than 1 ms"
    "ostler-manager|decide|one event in an estate of 100,000 instances: below 50 µs in decide and evolve for each instance touched"
    "ostler-manager|solve|an estate of 1,000 services with 50 versions each is solved and ordered in less than 1 s"
    "ostler-sim|years|one year of 1,000 services at 8 providers with all kinds of fault: below 60 s, and the same seed gives the same bytes of facts; 1,000,000 instances within 8 GiB; the cost of a death flat within a factor of 4"
    "ostler-providers|osb|10,000 instances made asynchronously at a broker that answers in 50 ms: at most 1.1 times the ideal that its limits set, with less than 100 MB; a broker that hangs, drips or answers 1 GB takes nothing from the others, and memory stays bounded"
    "ostler-probes|cost|no bar of its own: what one probe costs"
    "ostler-probes|noticed|a dead remote endpoint is noticed within 5 s, a hang within two probe intervals"
)

main() {
    local entry package bench bar
    for bench in ${ONLY//,/ }; do
        printf '%s\n' "${BENCHES[@]}" | cut -d '|' -f 2 | grep -qx -- "$bench" || {
            echo "bench: there is no benchmark \`$bench\`; there are: $(printf '%s\n' "${BENCHES[@]}" | cut -d '|' -f 2 | xargs)" >&2
            return 64
        }
    done
    {
        echo "# Benchmarks"
        echo
        echo "Written by \`make bench\`. Times are compared within one run on one machine; elsewhere the ratios are"
        echo "worth more than the numbers. A bar that is not met is marked MISSED."
        echo
        machine
        versions
    } >"$TEXT"
    cargo build --release --quiet -p ostler
    cargo build --release --quiet -p ostler --example tiny --example answers # what is looked after, and replaced
    # All of it first: what is measured must not share the machine with a compiler.
    for entry in "${BENCHES[@]}"; do
        IFS='|' read -r package bench bar <<<"$entry"
        ! is_asked "$bench" || cargo bench --quiet -p "$package" --bench "$bench" --no-run
    done
    for entry in "${BENCHES[@]}"; do
        IFS='|' read -r package bench bar <<<"$entry"
        if is_asked "$bench"; then measure "$package" "$bench" "$bar"; else keep "$package" "$bench"; fi
    done
    mkdir -p "$(dirname -- "$OUTPUT")"
    cp "$TEXT" "$OUTPUT"
    chmod 644 "$OUTPUT"
    echo "bench: written to $OUTPUT"
    [ ${#FAILED[@]} -eq 0 ] || { echo "bench: failed: ${FAILED[*]}" >&2; return 1; }
}

# Whether this benchmark is to be run now.
is_asked() { [ -z "$ONLY" ] || [[ ",$ONLY," == *",$1,"* ]]; }

# Leaves what the page says of a benchmark.
keep() {
    [ ! -r "$OUTPUT" ] || awk -v title="## $1: $2" '/^## / { on = $0 == title } on' "$OUTPUT" >>"$TEXT"
}

machine() {
    echo "## The machine"
    echo
    echo "| what | which |"
    echo "|---|---|"
    echo "| processor | $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores |"
    echo "| memory | $(awk '/^MemTotal/ { printf "%.1f GB", $2 * 1024 / 1e9 }' /proc/meminfo) |"
    echo "| kernel | $(uname -sr) |"
    echo "| system | $(. /etc/os-release && echo "$PRETTY_NAME") |"
    echo "| compiler | $(rustc --version) |"
    echo
}

versions() {
    echo "## Compared with"
    echo
    echo "| what | version |"
    echo "|---|---|"
    local package version
    for package in supervisor runit s6 monit daemontools haproxy nginx-light; do
        version="$(dpkg-query -W -f '${Version}' "$package" 2>/dev/null)" || version="not installed"
        echo "| $package | $version |"
    done
    if [ -r "$PM2" ]; then
        echo "| pm2 | $(sed -n 's/^ *"version": "\(.*\)",*$/\1/p' "$PM2" | head -n 1) |"
    else
        echo "| pm2 | not installed |"
    fi
    echo
}

measure() {
    local package="$1" bench="$2" bar="$3" load table
    load="$(cut -d ' ' -f 1-3 /proc/loadavg)"
    echo "bench: $package, $bench"
    # What goes to standard error is progress: for whoever waits, not for the page.
    table="$(timeout "$WITHIN" cargo bench --quiet -p "$package" --bench "$bench")" || {
        table="$table
(the benchmark failed)"
        FAILED+=("$bench")
    }
    {
        echo "## $package: $bench"
        echo
        echo "\`cargo bench -p $package --bench $bench\`, $(date -u +%Y-%m-%d), load before it $load"
        echo
        echo "Bar: $bar."
        echo
        echo '```text'
        echo "$table"
        echo '```'
        echo
    } >>"$TEXT"
}

main
