#!/usr/bin/env bash
# Run the examples in examples/drivers on a private cluster, each on tables made anew.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

NAME=drivers
install_extension $MAIN_PG
trap 'scripts/cluster.sh destroy $NAME' EXIT
scripts/cluster.sh destroy $NAME
scripts/cluster.sh start $NAME --fast
EXPORTS=$(scripts/cluster.sh env $NAME)
eval "$EXPORTS"
unset PGOPTIONS

python() { PYTHONPATH=$ROOT/target/drivers/python /usr/bin/python3 -B examples/drivers/python/example.py; }
node() { NODE_PATH=$ROOT/target/drivers/node/node_modules command node examples/drivers/node/example.js; }
rust() { cargo run -q --package crm_tree_example -- "host=$PGHOST port=$PGPORT user=$PGUSER dbname=$PGDATABASE"; }

PASSED=0 FAILED=0
for driver in python node rust; do
    scripts/cluster.sh psql $NAME -Xq -v ON_ERROR_STOP=1 -f examples/drivers/setup.sql >/dev/null
    if PGUSER=drivers_app $driver; then PASSED=$((PASSED + 1)); else FAILED=$((FAILED + 1)); fi
done
if [ $FAILED = 0 ]; then RESULT=ok; else RESULT=FAILED; fi
# In cargo's words, which scripts/test.sh counts.
echo "test result: $RESULT. $PASSED passed; $FAILED failed"
[ $FAILED = 0 ]
