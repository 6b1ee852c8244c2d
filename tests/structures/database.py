"""The database that PGHOST and PGPORT name, through psql."""

import csv
import io
import subprocess
import sys


def run(script):
    """Runs a script, and answers the rows of what it printed."""
    done = subprocess.run(
        ["psql", "-XqAt", "--csv", "-v", "ON_ERROR_STOP=1"], input=script, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return list(csv.reader(io.StringIO(done.stdout)))


def copy(table, rows):
    """A statement that loads the rows."""
    lines = "".join(",".join("" if v is None else str(v) for v in row) + "\n" for row in rows)
    return f"COPY {table} FROM STDIN (FORMAT csv);\n{lines}\\.\n"


def check(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got} where {wanted} is right")
    print(f"    {what}: {got}")
