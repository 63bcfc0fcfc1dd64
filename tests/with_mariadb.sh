#!/usr/bin/env bash
# Runs a command with FLOWIQ_TEST_MARIADB set to a throwaway MariaDB on loopback:
#   tests/with_mariadb.sh make destinations
# Installs Debian's mariadb-server first if there is none and we are root. Where a server cannot be
# had the command runs without, and the tests that need one say that they were skipped.
set -euo pipefail

find_server() { PATH="$PATH:/usr/sbin" command -v mariadbd || true; }

if [ -z "$(find_server)" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y mariadb-server) >/dev/null 2>&1 || true
fi
server=$(find_server)
if [ -z "$server" ]; then
    echo "no MariaDB server here: its tests will be skipped" >&2
    exec "$@"
fi

folder=$(mktemp -d)
port=$((20000 + RANDOM % 20000))
as_user=()
if [ "$(id -u)" = 0 ]; then
    chown mysql "$folder"
    as_user=(--user=mysql)
fi
cleanup() {
    kill "$pid" 2>/dev/null && wait "$pid" || true
    rm -rf "$folder"
}
mariadb-install-db "${as_user[@]}" --no-defaults --datadir="$folder/data" --auth-root-authentication-method=normal \
    --skip-test-db >"$folder/install.log" 2>&1
"$server" --no-defaults "${as_user[@]}" --datadir="$folder/data" --port="$port" --bind-address=127.0.0.1 \
    --socket="$folder/socket" --pid-file="$folder/pid" >"$folder/log" 2>&1 &
pid=$!
trap cleanup EXIT
for _ in $(seq 60); do
    if mariadb-admin --no-defaults --socket="$folder/socket" --user=root ping >/dev/null 2>&1; then break; fi
    sleep 1
done
mariadb --no-defaults --socket="$folder/socket" --user=root --execute="CREATE DATABASE flowiq_test;
    CREATE USER 'flowiq'@'127.0.0.1' IDENTIFIED BY 'unused'; GRANT ALL ON *.* TO 'flowiq'@'127.0.0.1'"
export FLOWIQ_TEST_MARIADB="mysql+pymysql://flowiq:unused@127.0.0.1:$port/flowiq_test"
"$@"
