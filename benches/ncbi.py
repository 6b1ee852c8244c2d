"""Write the NCBI taxonomy in random order: nodes.tsv (id, parent) and paths.tsv (id, parent, path, depth),
and name a subtree of about 10,000 nodes, a place to move it to, one of about 100, and the deepest node.
Usage: ncbi.py taxa.marisa DIR"""

import random
import sys

import marisa_trie

trie = marisa_trie.RecordTrie("IBBB")
trie.load(sys.argv[1])
parent = {int(key): record[0] for key, record in trie.iteritems()}
root = next(node for node, above in parent.items() if node == above)
parent[root] = None

children = {}
for node, above in parent.items():
    children.setdefault(above, []).append(node)
order, path, depth = [root], {root: f"/{root}/"}, {root: 0}
for node in order:
    for child in children.get(node, ()):
        path[child] = f"{path[node]}{child}/"
        depth[child] = depth[node] + 1
        order.append(child)
assert len(order) == len(parent), "nodes that no root reaches"
size = dict.fromkeys(order, 1)
for node in reversed(order[1:]):
    size[parent[node]] += size[node]

shuffled = sorted(parent)
random.Random(20240909).shuffle(shuffled)
with open(f"{sys.argv[2]}/nodes.tsv", "w") as plain, open(f"{sys.argv[2]}/paths.tsv", "w") as full:
    for node in shuffled:
        above = parent[node] if parent[node] is not None else r"\N"
        plain.write(f"{node}\t{above}\n")
        full.write(f"{node}\t{above}\t{path[node]}\t{depth[node]}\n")

top = min(order, key=lambda node: (abs(size[node] - 10_000), node))
hundred = min(order, key=lambda node: (abs(size[node] - 100), node))
deepest = min(order, key=lambda node: (-depth[node], node))
place = min(node for node in children[root] if not path[top].startswith(path[node]))
print(top, size[top], place, hundred, deepest, len(order), max(depth.values()))
