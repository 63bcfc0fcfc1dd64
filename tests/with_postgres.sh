#!/usr/bin/env bash
# Runs a command with FLOWIQ_TEST_POSTGRES set to a throwaway PostgreSQL on loopback:
#   tests/with_postgres.sh make check
# Installs Debian's postgresql first if there is none and we are root. Where a server cannot be
# had the command runs without, and the tests that need one say that they were skipped.
set -euo pipefail

find_server() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1; }

if [ -z "$(find_server)" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y postgresql) >/dev/null 2>&1 || true
fi
bin=$(find_server)
if [ -z "$bin" ]; then
    echo "no PostgreSQL server here: its tests will be skipped" >&2
    exec "$@"
fi

folder=$(mktemp -d)
port=$((20000 + RANDOM % 20000))
as_owner() { if [ "$(id -u)" = 0 ]; then su postgres -s /bin/bash -c "$*"; else bash -c "$*"; fi; }
if [ "$(id -u)" = 0 ]; then chown postgres "$folder"; fi
cleanup() {
    as_owner "$bin/pg_ctl -D $folder/data -m immediate stop" >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap cleanup EXIT
cd / # the server's owner may not see the project's folder
as_owner "$bin/initdb -D $folder/data -U flowiq -A trust -E UTF8 --no-locale" >/dev/null
as_owner "$bin/pg_ctl -D $folder/data -w -l $folder/log -o '-p $port -k $folder -c listen_addresses=127.0.0.1 -c fsync=off' start" >/dev/null
cd "$OLDPWD"
export FLOWIQ_TEST_POSTGRES="postgresql://flowiq:unused@127.0.0.1:$port/postgres"
"$@"
