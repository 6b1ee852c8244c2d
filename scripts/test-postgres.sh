#!/usr/bin/env bash
# PostgreSQL's own tests of row security and privileges, on a server that preloads crm_tree with the guard
# enforcing and the extension in the database: ordinary use is not disturbed.
#   scripts/test-postgres.sh
# Fetches PostgreSQL's source from Debian. The same tests run on a server without crm_tree first, and both
# are compared with the expected output.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

VERSION=15.18
SOURCE=http://deb.debian.org/debian/pool/main/p/postgresql-15/postgresql-15_$VERSION.orig.tar.bz2
OUT=$ROOT/target/test/postgres
INPUT=$ROOT/target/postgres-$VERSION
TESTS=(test_setup privileges rowsecurity)
trap 'scripts/cluster.sh destroy postgres' EXIT

if [ ! -e "$INPUT/expected/rowsecurity.out" ]; then
    step "Fetching PostgreSQL $VERSION's tests"
    rm -rf "$INPUT"
    mkdir -p "$INPUT"
    curl -fsSL "$SOURCE" | tar xj -C "$INPUT" --strip-components=4 "postgresql-$VERSION/src/test/regress"
    # A COPY that is refused takes no data from newer psqls' scripts, or all up to the next end of data: end it.
    sed -i -E 's/^(COPY .* FROM (STDIN|stdin);? *--.*(fail|error).*)$/\1\n\\./' "$INPUT"/sql/{privileges,rowsecurity}.sql
fi

install_extension $MAIN_PG
PGXS=$("$(pg_bin $MAIN_PG)/pg_config" --pgxs)
rm -rf "$OUT"
mkdir -p "$OUT"
gcc -shared -fPIC -I"$("$(pg_bin $MAIN_PG)/pg_config" --includedir-server)" "$INPUT/regress.c" -o "$OUT/regress.so"
chmod a+rx "$OUT" "$OUT/regress.so"

# run NAME OPTION...: with and without crm_tree.
run() {
    local name=$1 exports status=0
    shift
    step "$name"
    scripts/cluster.sh destroy postgres
    scripts/cluster.sh start postgres --fast "$@"
    exports=$(scripts/cluster.sh env postgres)
    (
        eval "$exports"
        PATH=$(pg_bin $MAIN_PG):$PATH
        unset PGDATABASE
        mkdir "$OUT/$name"
        cp "$OUT/regress.so" "$OUT/$name/"
        psql -Xqd postgres -c 'CREATE DATABASE regression TEMPLATE template0'
        # What pg_regress sets for a database that it makes itself.
        for setting in "lc_messages = 'C'" "lc_monetary = 'C'" "lc_numeric = 'C'" "lc_time = 'C'" "bytea_output = 'hex'" "timezone_abbreviations = 'Default'"; do
            psql -Xqd postgres -c "ALTER DATABASE regression SET $setting"
        done
        if [ "$name" = crm_tree ]; then
            psql -Xqd regression -c 'CREATE EXTENSION crm_tree' -c 'SHOW crm_tree.guard'
        fi
        "${PGXS%/makefiles/*}/test/regress/pg_regress" --use-existing --dbname=regression --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" \
            --bindir="$(pg_bin $MAIN_PG)" --inputdir="$INPUT" --outputdir="$OUT/$name" --dlpath="$OUT/$name" "${TESTS[@]}"
    ) || status=$?
    return $status
}

FAILED=0
run bare || FAILED=1
run crm_tree --preload || FAILED=1
if diff -r "$OUT/bare/results" "$OUT/crm_tree/results" >"$OUT/difference"; then
    note "crm_tree makes no difference to the output"
else
    cat "$OUT/difference"
    FAILED=1
fi
[ $FAILED = 0 ]
