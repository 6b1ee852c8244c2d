#!/usr/bin/env bash
# Run the SQL of the documentation, that of README.md and docs/*.md or of the pages that are named:
#   scripts/test-docs.sh [--pg-config PATH] [PAGE...]
# on a private cluster that preloads the extension; with --pg-config on that server's programs, with
# the extension that is installed there.
#
# Every page gets a new database and roles of its own. If it does not create the extension itself, it
# finds it there. Its blocks run in order, each in a session of its own as the superuser postgres:
#   ```sql               has to succeed
#   ```sql fails=23514   has to end in an error with this SQLSTATE
#   ```sql fails=TEXT    has to end in an error whose report contains TEXT
#   ```sql norun         is not run
# Links to other files must not be broken either.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

PG_CONFIG=''
if [ "${1:-}" = --pg-config ]; then
    [ -n "${2:-}" ] || die "usage: scripts/test-docs.sh [--pg-config PATH] [PAGE...]"
    PG_CONFIG=$2
    shift 2
fi
PAGES=("$@")
[ $# -gt 0 ] || PAGES=(README.md docs/*.md)

NAME=docs
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"; scripts/cluster.sh destroy $NAME' EXIT

if [ -z "$PG_CONFIG" ]; then
    PG_CONFIG=$(pg_bin $MAIN_PG)/pg_config
    install_extension $MAIN_PG
fi
scripts/cluster.sh destroy $NAME
scripts/cluster.sh start $NAME --pg-config "$PG_CONFIG" --preload --fast
EXPORTS=$(scripts/cluster.sh env $NAME)
eval "$EXPORTS"
PATH=$("$PG_CONFIG" --bindir):$PATH
export PGAPPNAME=crm_tree-docs
unset PGOPTIONS PSQLRC

# A page's blocks as DIR/001.sql …, with line numbers as on the page, and what was said of each as DIR/001.info.
extract() { # PAGE DIR
    awk -v dir="$2" '
        /^[ \t]+```sql/ { print FILENAME ":" FNR ": a block has to start at the beginning of its line" > "/dev/stderr"; bad = 1; exit 1 }
        !open && /^```sql([ \t]|$)/ {
            file = sprintf("%s/%03d", dir, ++n)
            info = $0
            sub(/^```sql[ \t]*/, "", info)
            sub(/[ \t]+$/, "", info)
            print info > (file ".info")
            for (i = 1; i <= FNR; i++) print "" > (file ".sql")
            start = FNR
            open = 1
            next
        }
        open && /^```/ { open = 0; close(file ".sql"); close(file ".info"); next }
        open { print > (file ".sql") }
        END { if (open && !bad) { print FILENAME ":" start ": a block is not closed" > "/dev/stderr"; exit 1 } }' "$1"
}

run_psql() { psql -X -q -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -v SHOW_CONTEXT=never "$@"; }

# A database for the next page, and no roles left of the one before.
fresh_database() {
    local role
    run_psql -d postgres -c "SET client_min_messages = warning" -c "DROP DATABASE IF EXISTS docs WITH (FORCE)" -c "CREATE DATABASE docs"
    while IFS= read -r role; do
        run_psql -d postgres -v role="$role" <<<'DROP ROLE :"role"'
    done < <(psql -XAtd postgres -c "SELECT rolname FROM pg_roles WHERE oid >= 16384")
}

RAN=0 FAILED=0 SKIPPED=0
problem() { # TEXT [FILE WITH OUTPUT]
    printf '    %s%s%s\n' "$RED" "$1" "$PLAIN"
    if [ $# -gt 1 ]; then sed 's/^/        /' "$2"; fi
    FAILED=$((FAILED + 1))
}

# run_block PAGE FILE: whether it went as it should. What went wrong is in $WORK/why and $WORK/out.
run_block() {
    local file=$2 info expected status=0
    info=$(cat "${file%.sql}.info")
    case $info in
        '' | fails=?*) expected=${info#fails=} ;;
        *) echo "what is \"$info\"? Only fails=… and norun are known" >"$WORK/why" && : >"$WORK/out" && return 1 ;;
    esac
    run_psql -d docs -f "$file" </dev/null >"$WORK/out" 2>&1 || status=$?
    sed -i "s|psql:$file:|$1:|" "$WORK/out"
    if [ -z "$expected" ]; then
        echo "should succeed" >"$WORK/why"
        [ $status = 0 ]
    else
        echo "should fail with $expected" >"$WORK/why"
        [ $status = 3 ] || return 1
        if [[ $expected =~ ^[0-9A-Z]{5}$ ]]; then
            grep -qE "(ERROR|FATAL):  $expected:" "$WORK/out"
        else
            grep -E '(ERROR|FATAL|DETAIL|HINT):' "$WORK/out" | grep -qF -- "$expected"
        fi
    fi
}

test_page() {
    local page=$1 dir file line link ran=0 skipped=0 before=$FAILED
    dir=$WORK/page-${page//\//-}
    mkdir "$dir"
    while IFS= read -r link; do
        [ -e "$(dirname "$page")/$link" ] || problem "$page: there is no $link to link to"
    done < <(grep -oE '\]\([^)#]+' "$page" | sed 's/^](//' | grep -vE '^[a-z]+:' | sort -u)

    if extract "$page" "$dir" 2>"$WORK/out"; then
        if compgen -G "$dir/*.sql" >/dev/null; then
            fresh_database
            grep -qE '^CREATE EXTENSION.* crm_tree' "$dir"/*.sql || run_psql -d docs -c 'CREATE EXTENSION crm_tree'
        fi
        for file in "$dir"/*.sql; do
            [ -e "$file" ] || continue
            if [ "$(cat "${file%.sql}.info")" = norun ]; then
                skipped=$((skipped + 1))
                continue
            fi
            ran=$((ran + 1))
            if ! run_block "$page" "$file"; then
                line=$(awk 'NF { print NR; exit }' "$file")
                problem "$page:$line: $(cat "$WORK/why")" "$WORK/out"
                break # what follows builds on it
            fi
        done
    else
        problem "$page: its blocks cannot be read" "$WORK/out"
    fi
    RAN=$((RAN + ran)) SKIPPED=$((SKIPPED + skipped))
    if [ $FAILED = "$before" ]; then
        printf '%sok%s    %s: %d blocks%s\n' "$GREEN" "$PLAIN" "$page" "$ran" "$([ $skipped = 0 ] || echo ", $skipped not run")"
    else
        printf '%sFAIL%s  %s\n' "$RED" "$PLAIN" "$page"
    fi
}

for page in "${PAGES[@]}"; do test_page "$page"; done
if [ $FAILED = 0 ]; then RESULT=ok; else RESULT=FAILED; fi
# In cargo's words, which scripts/test.sh counts.
echo "test result: $RESULT. $((RAN > FAILED ? RAN - FAILED : 0)) passed; $FAILED failed; $SKIPPED not run; ${#PAGES[@]} pages"
[ $FAILED = 0 ]
