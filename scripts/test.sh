#!/usr/bin/env bash
# Run the tests, all of them or the stages that are named:
#   scripts/test.sh [--accept] [STAGE...]
#
#   lint       formatting, clippy, shellcheck
#   unit       Rust tests that need no server, property tests among them
#   pgtest     Rust tests inside a PostgreSQL 15 backend
#   golden15   tests/pg_regress: SQL against its expected output
#   isolation  tests/isolation: concurrent sessions, interleaved step by step
#   attack     tests/attack: attempts to get through the wall
#   plain      the same on a server that does not preload the library
#   server     tests/server: what needs servers of its own (restarts, crashes, workers, dumps)
#   drivers    scripts/test-drivers.sh: the examples with Python, Node and Rust
#   docs       scripts/test-docs.sh: the examples of the documentation
#   postgres   scripts/test-postgres.sh: PostgreSQL's own tests of row security, with us preloaded
#   structures scripts/test-structures.sh: rollups over WordNet and over a directory with hard links
#   golden16   golden15 on PostgreSQL 16
#   golden18   golden15 on PostgreSQL 18
#   restore18  a dump of PostgreSQL 15 restored on 18
#
# and, only where named:
#
#   stress     100,000 transactions of eight sessions against two trees (CRM_TREE_OPERATIONS)
#
# With --accept, golden15, isolation, attack and plain take the output they got as the expected one.
# All stages run even if one fails. Logs and differing output are in target/test.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
unset PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD PGDATABASE PGSERVICE PGOPTIONS PGDATA

OUT=$ROOT/target/test
# Clusters of this run alone.
export CRM_TREE_RUN_DIR=${CRM_TREE_RUN_DIR:-$PRIVATE-t$$}
RUN_DIR=$CRM_TREE_RUN_DIR
# The same selection wherever the crate is compiled for tests, so that cargo builds it once.
CRATE=(--package crm_tree --no-default-features --features "pg$MAIN_PG pg_test")

stage_lint() {
    cargo fmt --all --check
    cargo clippy "${CRATE[@]}" --all-targets -- -D warnings
    cargo clippy --package crm_tree_server_tests --package crm_tree_example --all-targets -- -D warnings
    shellcheck -x -P SCRIPTDIR scripts/*.sh benches/*.sh .ci/run
    # What is expected with a directory of one machine in it fails on every other.
    if grep -nE '"/(home|root|tmp|usr|var|opt)/' tests/*/{expected,plain}/*; then false; fi
}

# Every #[pg_test] becomes a Rust test named pg_...
stage_unit() { cargo test "${CRATE[@]}" --lib -- --skip ::pg_; }

stage_pgtest() {
    local options=(--pgdata "$RUN_DIR/pgtest/data")
    make_run_dir
    mkdir "$RUN_DIR/pgtest"
    if is_root; then
        chown postgres: "$RUN_DIR/pgtest"
        options+=(--runas postgres)
    fi
    cargo pgrx test "pg$MAIN_PG" ::pg_ --package crm_tree --no-default-features "${options[@]}"
}

stage_golden15() { regress 15 pg_regress sql; }
stage_golden16() { regress 16 pg_regress sql; }
stage_golden18() { regress 18 pg_regress sql; }
stage_attack() { regress 15 attack sql; }
stage_plain() { PLAIN_SERVER=true regress 15 attack sql; }
stage_isolation() { regress 15 isolation spec --load-extension=crm_tree; }

# regress VERSION DIRECTORY KIND [OPTION...]: run tests/DIRECTORY/KIND, `setup` first, then in
# alphabetical order, on one database of a new cluster that preloads our extension; with PLAIN_SERVER,
# of one that does not, where a file in tests/DIRECTORY/plain is expected instead of that in expected.
# The programs and the psql are PostgreSQL 15's, whatever the server.
regress() {
    local version=$1 input=tests/$2 kind=$3 cluster=test-${2//_/-} output=$OUT/$2-$1 preload=(--preload)
    shift 3
    local files=$input/sql program=regress/pg_regress
    if [ -n "${PLAIN_SERVER:-}" ]; then
        cluster+=-plain output+=-plain preload=()
    fi
    if [ "$kind" = spec ]; then files=$input/specs program=isolation/pg_isolation_regress; fi

    local tests=() setup=() file
    for file in "$files"/*."$kind"; do
        file=$(basename "$file" ".$kind")
        if [ "$file" = setup ]; then setup=(setup); else tests+=("$file"); fi
    done
    tests=("${setup[@]}" "${tests[@]}")
    [ "${tests[*]}" != '*' ] || die "there are no tests in $files"

    install_extension "$version"
    scripts/cluster.sh destroy "$cluster"
    scripts/cluster.sh start "$cluster" --pg "$version" "${preload[@]}" --fast
    rm -rf "$output"
    mkdir -p "$output"
    mkdir -p "$input/expected"
    if $ACCEPT; then for file in "${tests[@]}"; do touch -a "$input/expected/$file.out"; done; fi
    if [ -n "${PLAIN_SERVER:-}" ]; then
        cp -r "$input/$kind" "$input/expected" "$output/"
        cp "$input"/plain/*.out "$output/expected/"
        input=$output
    fi

    local pgxs exports failed=0
    pgxs=$("$(pg_bin $MAIN_PG)/pg_config" --pgxs)
    (
        exports=$(scripts/cluster.sh env "$cluster")
        eval "$exports"
        "${pgxs%/makefiles/*}/test/$program" --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" --dbname=regress \
            --bindir="$(pg_bin $MAIN_PG)" --inputdir="$input" --outputdir="$output" "$@" "${tests[@]}"
    ) || failed=$?
    cp "$RUN_DIR/$cluster/log" "$output/server.log"
    scripts/cluster.sh destroy "$cluster"
    [ "$failed" != 0 ] || return 0

    if $ACCEPT && [ "$version" = $MAIN_PG ]; then
        note "accepting the output as it is: look at 'git diff tests'"
        if [ -n "${PLAIN_SERVER:-}" ]; then
            accept_differing "$output/results" tests/attack
        else
            cp "$output"/results/*.out "$input/expected/"
        fi
        return 0
    fi
    cat "$output/regression.diffs" || true
    grep -E 'PANIC|terminated by signal' "$output/server.log" || true
    return 1
}

# accept_differing RESULTS DIRECTORY: keep in DIRECTORY/plain what differs from DIRECTORY/expected.
accept_differing() {
    local result
    for result in "$1"/*.out; do
        if cmp -s "$result" "$2/expected/${result##*/}"; then
            rm -f "$2/plain/${result##*/}"
        else
            cp "$result" "$2/plain/"
        fi
    done
}

stage_server() { server_tests --no-fail-fast; }
stage_restore18() {
    CRM_TREE_PG18_BIN=$("$(pg_bin 18)/pg_config" --bindir)
    export CRM_TREE_PG18_BIN
    install_extension 18
    server_tests --test dump -- --ignored
}
stage_stress() {
    CRM_TREE_OPERATIONS=${CRM_TREE_OPERATIONS:-100000} \
        server_tests --release --test tree -- --nocapture --test-threads=1 no_interleaving
}

# server_tests OPTION...: they start servers by themselves: with the programs in CRM_TREE_PG_BIN and CRM_TREE_PGBOUNCER, below
# CRM_TREE_RUN_DIR, as the operating-system user CRM_TREE_RUNAS if that is not empty.
server_tests() {
    install_extension $MAIN_PG
    make_run_dir
    export CRM_TREE_PG_BIN CRM_TREE_PGBOUNCER CRM_TREE_RUN_DIR=$RUN_DIR/server CRM_TREE_RUNAS=''
    CRM_TREE_PGBOUNCER=$(pg_home)/pgbouncer/usr/sbin/pgbouncer
    CRM_TREE_PG_BIN=$("$(pg_bin $MAIN_PG)/pg_config" --bindir)
    mkdir -p "$CRM_TREE_RUN_DIR"
    if is_root; then
        CRM_TREE_RUNAS=postgres
        chown postgres: "$CRM_TREE_RUN_DIR"
    fi
    cargo test --package crm_tree_server_tests "$@"
}

stage_drivers() { scripts/test-drivers.sh; }
stage_docs() { scripts/test-docs.sh; }
stage_postgres() { scripts/test-postgres.sh; }
stage_structures() { scripts/test-structures.sh; }

# Read a stage's log and print how many of its tests passed and how many failed.
count() {
    awk '
        /^test result: / { passed += $4; failed += $6 }                      # cargo: ok. 3 passed; 1 failed; ...
        /^ All [0-9]+ tests? passed/ { passed += $2 }                        # pg_regress
        /^ [0-9]+ of [0-9]+ tests? failed/ { failed += $1; passed += $3 - $1 }
        END { print passed + 0, failed + 0 }' "$1"
}

# Print the lines of a failed stage's log that say most, few enough to be read below the summary.
why() {
    grep -E '^[-+]|^not ok|FAILED|panicked at|^error|ERROR|FATAL|^In .* line' "$1" | grep -vE '^(\+\+\+|---) ' | sed -n 1,12p || tail -n 12 "$1"
}

ACCEPT=false
if [ "${1:-}" = --accept ]; then ACCEPT=true && shift; fi
# What needs the same build stands together: cargo keeps one release build of the extension.
STAGES=(lint unit pgtest golden15 isolation attack plain server drivers docs postgres structures golden16 golden18 restore18)
for stage in "$@"; do
    [[ " ${STAGES[*]} stress " == *" $stage "* ]] || die "there is no stage '$stage', only: ${STAGES[*]} stress"
done
[ $# -eq 0 ] || STAGES=("$@")

mkdir -p "$OUT"
trap 'scripts/cluster.sh destroy --all' EXIT
PASSED=0 FAILED=0 SUMMARY=() FAILURES=()

# run NAME COMMAND...: run a stage, keep its log, and remember how it went.
run() {
    local name=$1 start=$SECONDS status passed failed mark
    shift
    step "$name"
    set +e # `set -e` has to hold inside of the stage, so this must not be a condition
    (set -e && "$@") </dev/null 2>&1 | tee "$OUT/$name.log"
    status=${PIPESTATUS[0]}
    set -e
    read -r passed failed < <(count "$OUT/$name.log")
    if [ "$status" = 0 ]; then
        mark="${GREEN}pass$PLAIN"
        passed=$((passed + failed)) failed=0 # with --accept, a difference is no failure
        if [ "$passed" = 0 ]; then passed=1; fi
    else
        mark="${RED}FAIL$PLAIN"
        if [ "$failed" = 0 ]; then failed=1; fi
        FAILURES+=("$(printf '%s:\n%s' "$name" "$(why "$OUT/$name.log")")")
    fi
    PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed))
    SUMMARY+=("$(printf '%s  %-10s %4d s  %4d passed, %d failed' "$mark" "$name" $((SECONDS - start)) "$passed" "$failed")")
}

run setup scripts/setup.sh --all-versions
if [ "$FAILED" != 0 ]; then STAGES=(); fi
for stage in "${STAGES[@]}"; do run "$stage" "stage_$stage"; done

step "Summary"
printf '    %s\n' "${SUMMARY[@]}"
[ "$FAILED" = 0 ] || printf '%s\n' "${FAILURES[@]}"
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
