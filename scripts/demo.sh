#!/usr/bin/env bash
# The demo: loads the sample CRM into a running private cluster and shows what crm_tree does with it.
#
#   PGHOST=… PGPORT=… scripts/demo.sh
#
# Needs a server with crm_tree installed and in shared_preload_libraries, and a superuser (PGUSER, default
# postgres). DROPS and creates the database PGDATABASE (default crm), and the roles crm_app and crm_jobs.
# `make demo` starts such a server and calls this. Exits non-zero when anything is not as it should be.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
sample=$here/../examples/sample
: "${PGHOST:?set PGHOST to the socket directory of a private cluster}"
export PGHOST PGPORT=${PGPORT:-5432} PGUSER=${PGUSER:-postgres} PGDATABASE=${PGDATABASE:-crm}
export LC_ALL=C PGCLIENTENCODING=UTF8 PGAPPNAME=crm_tree-demo PGOPTIONS='-c client_min_messages=warning'
unset PSQLRC PSQL_PAGER PAGER

if [[ -t 1 && ${TERM:-dumb} != dumb ]]; then
    bold=$'\e[1m' dim=$'\e[2m' blue=$'\e[36m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' dim='' blue='' red='' green='' plain=''
fi

section=0
heading() {
    local title="$((++section)). $1" rule
    printf -v rule '%*s' $((94 - ${#title})) ''
    printf '\n%s━━ %s %s%s\n\n' "$bold" "$title" "${rule// /━}" "$plain"
}

fail() {
    printf '\n%sdemo: %s%s\n' "$red" "$1" "$plain" >&2
    exit 1
}

quietly() { # a role, then psql arguments: no output unless it fails
    local role=$1 log
    shift
    if ! log=$(psql -X -q -v ON_ERROR_STOP=1 -U "$role" "$@" 2>&1); then
        printf '%s\n' "$log" >&2
        fail 'a preparing step failed; its output is above'
    fi
}

# Runs scripts/demo/<file> as <role> and shows it: see scripts/demo/README for the directives in the files.
show() {
    local role=$1 file=$here/demo/$2
    awk -f "$here/demo/prepare.awk" "$file" |
        psql -X -q -v ON_ERROR_STOP=1 -v SHOW_CONTEXT=never -P linestyle=unicode -P border=1 -P footer=off \
            -P null=· -P numericlocale=on -U "$role" -f - 2>&1 |
        LC_ALL=C awk -v bold="$bold" -v dim="$dim" -v blue="$blue" -v red="$red" -v green="$green" -v plain="$plain" \
            -f "$here/demo/render.awk" ||
        fail "section $section ($2) did not go as it should"
}

started=$SECONDS
[[ $(psql -X -At -d postgres -c 'SHOW shared_preload_libraries') == *crm_tree* ]] ||
    fail "this server does not preload crm_tree (shared_preload_libraries): the background worker would not run"

printf '%scrm_tree: many companies in the same tables, each behind a wall, each with its account tree%s\n' "$bold" "$plain"
printf '%sReal company names, simplified structure, invented figures: see examples/sample/README.md%s\n' "$dim" "$plain"

heading 'A database, the CRM, and three companies that use it'
printf 'Three software companies ("orgs") keep their customers in the same tables:\n'
printf '  A  Acme Cloud         sells to JPMorgan Chase & Co. and 119 of its subsidiaries\n'
printf '  B  Bluewater Systems  sells to Volkswagen AG and 73 of its subsidiaries\n'
printf '  C  Cobalt Software    sells to 10,000 generated accounts\n\n'
printf 'A superuser installs everything, and says which role may work for which org:\n'
quietly "$PGUSER" -d postgres -c "DROP DATABASE IF EXISTS \"$PGDATABASE\" WITH (FORCE)" \
    -c 'DROP ROLE IF EXISTS crm_app, crm_jobs' -c "CREATE DATABASE \"$PGDATABASE\""
show "$PGUSER" setup.sql
loading=$SECONDS
quietly "$PGUSER" -v dir="$sample" -f "$sample/load.sql"
quietly "$PGUSER" -c 'VACUUM ANALYZE'
printf '\nexamples/sample/load.sql loaded them, each org in a transaction bound to it (%s s).\n' $((SECONDS - loading))
printf '%sEverything below runs as the ordinary role crm_app, unless it says otherwise.%s\n' "$dim" "$plain"

heading 'The tree, with own and rolled-up revenue'
show crm_app tree.sql

heading 'A re-organisation is one UPDATE'
show crm_app reorg.sql

heading 'A cycle is refused'
show crm_app cycle.sql

heading 'The wall: one query, three answers'
show crm_app wall.sql

heading 'Where the deals are, and how long they sat'
show crm_app pipeline.sql
show "$PGUSER" append_only.sql

heading 'Who may see an account, and why'
show crm_app sharing.sql

heading 'Broken on purpose, repaired by the background worker'
show "$PGUSER" break.sql
show crm_jobs jobs.sql
printf '\n%sWaiting for the background worker …' "$dim"
waited=0
until [[ $(psql -X -At -U crm_jobs -f "$here/demo/done.sql") == t ]]; do
    ((++waited <= 150)) || fail 'the background worker did not run the job within 30 seconds'
    sleep 0.2
done
printf ' done.%s\n' "$plain"
show crm_jobs repaired.sql

heading 'Ten thousand accounts, every total in one pass'
show crm_app large.sql

heading 'Go on'
quietly crm_app -f "$here/demo/try.sql"
printf '%smake psql%s opens a shell on this database. Three things to try there:\n\n' "$bold" "$plain"
awk -v b="$blue" -v d="$dim" -v p="$plain" '/^--/ { print d $0 p; next } { print b $0 p }' "$here/demo/try.sql"
printf '\n%smake stop%s deletes this server. The demo took %s s.\n' "$bold" "$plain" $((SECONDS - started))
