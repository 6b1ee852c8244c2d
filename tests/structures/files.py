"""A directory with hard links: what a distinct rollup says of each directory is what `du` says of it."""

import os
import random
import subprocess
import sys

from database import check, copy, run

top = sys.argv[1]
dice = random.Random(4)
directories = [top]
os.makedirs(top)
for n in range(150):
    directories.append(os.path.join(dice.choice(directories[-40:]), f"d{n}"))
    os.mkdir(directories[-1])
files = []
for n in range(1200):
    path = os.path.join(dice.choice(directories), f"f{n}")
    if files and dice.random() < 0.4:
        os.link(dice.choice(files), path)
    else:
        with open(path, "wb") as file:
            file.write(os.urandom(dice.choice((0, 1, 5000, 70000, 300000))))
        files.append(path)
os.sync()

nodes, links, size = {}, set(), {}
for directory, names, leaves in os.walk(top):
    number = os.lstat(directory).st_ino
    nodes.setdefault(number, None)
    size[number] = os.lstat(directory).st_blocks * 512
    for name in names + leaves:
        below = os.lstat(os.path.join(directory, name))
        size[below.st_ino] = below.st_blocks * 512
        if below.st_ino not in nodes:
            nodes[below.st_ino] = number
        elif nodes[below.st_ino] != number:
            links.add((number, below.st_ino))
if len(links) < 200:
    sys.exit(f"only {len(links)} hard links to another directory: nothing would be told apart")

run(
    "SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS crm_tree; DROP TABLE IF EXISTS hard, inode, bytes;"
    "CREATE TABLE inode (org_id int NOT NULL DEFAULT 1, id bigint NOT NULL, parent bigint, PRIMARY KEY (org_id, id));"
    "CREATE TABLE hard (org_id int NOT NULL DEFAULT 1, parent bigint, child bigint, PRIMARY KEY (org_id, parent, child));"
    "CREATE TABLE bytes (id bigint, size bigint);"
    + copy("inode (id, parent)", nodes.items())
    + copy("hard (parent, child)", links)
    + copy("bytes", size.items())
    + "SELECT crm_tree.attach_tree('inode', 'id', 'parent', max_depth => 100);"
    "SELECT crm_tree.attach_links('hard', 'inode', 'parent', 'child');"
)
answer = {}
for mode in ("distinct", "primary"):
    rows = run(
        "\\o /dev/null\nSELECT crm_tree.bind_session(1); \\o\n"
        f"SELECT id, total FROM crm_tree.rollup('inode', 'SELECT id, size FROM bytes', '{mode}')"
    )
    answer[mode] = {int(i): int(total) for i, total in rows}
said = {}
for directory in directories:
    line = subprocess.run(["du", "-s", "-B1", directory], capture_output=True, text=True, check=True).stdout
    said[os.lstat(directory).st_ino] = int(line.split()[0])
check("directories", len(said), 151)
check("hard links to another directory", len(links), len(links))
check("directories where du says otherwise", sum(answer["distinct"][n] != s for n, s in said.items()), 0)
apart = sum(answer["primary"][n] != s for n, s in said.items())
if not apart:
    sys.exit("the tree alone agrees with du everywhere: the links made no difference")
print(f"    directories that the tree alone gets wrong: {apart}")
