"""WordNet's nouns: a hierarchy in which 2,214 nodes have several parents."""

import random
import sys
from decimal import Decimal

from database import check, copy, run


def read(file):
    """Synset → its hypernyms, the first one first."""
    parents = {}
    with open(file, encoding="latin-1") as lines:
        for line in lines:
            if line.startswith("  "):  # the licence
                continue
            fields = line.split(" | ")[0].split()
            pointers = 4 + 2 * int(fields[3], 16)
            above = []
            for n in range(int(fields[pointers])):
                symbol, target, part = fields[pointers + 1 + 4 * n : pointers + 4 + 4 * n]
                if symbol in ("@", "@i") and part == "n" and int(target) not in above:
                    above.append(int(target))
            parents[int(fields[0])] = above
    return parents


parents = read(sys.argv[1])
check("nodes", len(parents), 82192)
check("edges", sum(map(len, parents.values())), 84505)
check("nodes with several parents", sum(len(above) > 1 for above in parents.values()), 2214)

children, spanning = {}, {}
for node, above in parents.items():
    for parent in above:
        children.setdefault(parent, []).append(node)
    for parent in above[:1]:
        spanning.setdefault(parent, []).append(node)


def union(top, below):
    seen, waiting = {top}, [top]
    while waiting:
        for node in below.get(waiting.pop(), ()):
            if node not in seen:
                seen.add(node)
                waiting.append(node)
    return seen


# Some without a figure, some below zero, cents that floating point would lose.
amount = {n: Decimal(n * 7919 % 100003 - 20000) / 100 for n in parents if n % 11}

BIND = "SET client_min_messages = warning; \\o /dev/null\nSELECT crm_tree.bind_session(1); \\o\n"
FACTS = "$$ SELECT id, amount FROM fact $$"
run(
    "CREATE EXTENSION IF NOT EXISTS crm_tree; DROP TABLE IF EXISTS also, noun, fact;"
    "CREATE TABLE noun (org_id int NOT NULL DEFAULT 1, id int NOT NULL, parent int, PRIMARY KEY (org_id, id));"
    "CREATE TABLE also (org_id int NOT NULL DEFAULT 1, parent int, child int, PRIMARY KEY (org_id, parent, child));"
    "CREATE TABLE fact (id int, amount numeric);"
    + copy("noun (id, parent)", ((n, above[0] if above else None) for n, above in parents.items()))
    + copy("also (parent, child)", ((p, n) for n, above in parents.items() for p in above[1:]))
    + copy("fact", amount.items())
    + "SELECT crm_tree.attach_tree('noun', 'id', 'parent');"
    "SELECT crm_tree.attach_links('also', 'noun', 'parent', 'child'); ANALYZE noun, also, fact;"
)

roots = [n for n, above in parents.items() if not above]
chosen = random.Random(20240901).sample(sorted(parents), 1000)
deep = random.Random(1).sample([n for n in sorted(children) if len(union(n, children)) > 100], 100)
for mode, below in (("distinct", children), ("primary", spanning)):
    rows = run(BIND + f"SELECT id, total, descendants, missing FROM crm_tree.rollup('noun', {FACTS}, '{mode}')")
    found = {int(i): (Decimal(t), int(d), int(m)) for i, t, d, m in rows}
    check(f"{mode}: rows", len(found), len(parents))
    wrong = 0
    for node in roots + chosen + deep:
        members = union(node, below)
        total = sum((amount.get(n, Decimal(0)) for n in members), Decimal(0))
        wrong += found[node] != (total, len(members) - 1, sum(n not in amount for n in members))
    check(f"{mode}: wrong of {len(roots)} roots, {len(chosen)} random nodes and {len(deep)} large ones", wrong, 0)
    alone = "".join(
        f"SELECT id, total, descendants, missing FROM crm_tree.rollup('noun', {FACTS}, '{mode}', '{n}') WHERE id = '{n}';"
        for n in deep[:25]
    )
    asked = {int(i): (Decimal(t), int(d), int(m)) for i, t, d, m in run(BIND + alone)}
    same = sum(asked.get(n) == found[n] for n in deep[:25])
    check(f"{mode}: the same when asked for alone", same, 25)

both = [n for n in deep if union(n, children) != union(n, spanning)]
if not both:
    sys.exit("none of the chosen nodes has a second parent below it: the two modes were not told apart")
# Without columns of ownership each way counts in full.
ways = run(
    BIND + "SELECT sum(total) FROM crm_tree.rollup('noun', 'SELECT id, 1 FROM noun', 'weighted') WHERE parent IS NULL"
)
check("counted once for each way", int(ways[0][0]), 111571)
once = run(BIND + "SELECT sum(total) FROM crm_tree.rollup('noun', 'SELECT id, 1 FROM noun') WHERE parent IS NULL")
check("counted once", int(once[0][0]), 82192)
