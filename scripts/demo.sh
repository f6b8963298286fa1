#!/usr/bin/env bash
# Brings up an example estate with the built ostler, and stays with it.
#
#   scripts/demo.sh OSTLER [bookshop|two-providers]        (default: bookshop)
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."

ostler="$1"
case "${2:-bookshop}" in
    bookshop)
        exec "$ostler" up examples/bookshop/ostler.toml
        ;;
    two-providers)
        password=examples/two-providers/acme-password
        if [ ! -s "$password" ]; then
            echo "demo: making up the password with which the bookshop buys from acme: $password"
            (umask 077 && head -c 18 /dev/urandom | base64 >"$password")
        fi
        echo "demo: acme opens, an Open Service Broker that sells databases"
        "$ostler" provide --detach examples/two-providers/acme.toml
        echo
        echo "demo: acme is examined before anything is bought from it"
        "$ostler" provider check acme examples/two-providers/ostler.toml | tail -n 2
        echo
        echo "demo: the bookshop opens, and buys its database from acme"
        echo "demo: acme goes on selling afterwards, until it is stopped as shown above"
        exec "$ostler" up examples/two-providers/ostler.toml
        ;;
    *)
        echo "demo: there is no example \`$2\`; choose bookshop or two-providers" >&2
        exit 64
        ;;
esac
