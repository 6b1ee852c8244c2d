"""Bind on entry, clear on exit: psycopg 3 with a pool. Connects as libpq's PG* variables say."""

import threading
from contextlib import contextmanager
from uuid import UUID

import psycopg
from psycopg_pool import ConnectionPool


@contextmanager
def org_transaction(pool: ConnectionPool, org: UUID, user: str | None = None):
    """A transaction bound to one org. Its end, by return or by exception, takes the binding along."""
    with pool.connection() as connection, connection.transaction():
        connection.execute("SELECT crm_tree.bind_org(%s::uuid, %s)", (org, user))
        yield connection


@contextmanager
def token_transaction(pool: ConnectionPool, token: str):
    """The same by a signed token. A parameter, so that no statement's text has it."""
    with pool.connection() as connection, connection.transaction():
        connection.execute("SELECT crm_tree.bind_token(%s)", (token,))
        yield connection


ORG_A = UUID("aaaaaaaa-0000-4000-8000-00000000000a")
ORG_B = UUID("bbbbbbbb-0000-4000-8000-00000000000b")


def bodies(connection: psycopg.Connection) -> list[str]:
    return [body for (body,) in connection.execute("SELECT body FROM drivers.note ORDER BY id")]


def refused(pool: ConnectionPool, statement: str) -> str:
    try:
        with pool.connection() as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        return error.sqlstate or ""
    return "00000"


def main() -> None:
    # One connection for all: the next request has to find nothing of the last one on it.
    with ConnectionPool("", min_size=1, max_size=1) as pool:
        with org_transaction(pool, ORG_A, "ann") as connection:
            assert bodies(connection) == ["of org a"]
            connection.execute("INSERT INTO drivers.note (id, body) VALUES (2, 'two of a')")
        with org_transaction(pool, ORG_B, "bob") as connection:
            assert bodies(connection) == ["of org b"]

        # After a request that failed half way, and for a statement that forgot to bind.
        try:
            with org_transaction(pool, ORG_A) as connection:
                connection.execute("DELETE FROM drivers.note")
                raise LookupError("the request breaks off")
        except LookupError:
            pass
        assert refused(pool, "SELECT * FROM drivers.note") == "42501"
        assert refused(pool, "INSERT INTO drivers.note (id) VALUES (3)") == "42501"
        with org_transaction(pool, ORG_A) as connection:
            assert bodies(connection) == ["of org a", "two of a"]
            assert refused_inside(connection, ORG_B) == "42501"
        try:
            with token_transaction(pool, "no.token.this"):
                raise AssertionError("a token that does not hold was taken")
        except psycopg.errors.InsufficientPrivilege as error:
            assert "no.token.this" not in str(error)

    # Threads on two connections, prepared statements included: psycopg prepares what runs often.
    with ConnectionPool("", min_size=2, max_size=2) as pool:
        wrong: list[object] = []

        def work(org: UUID, expected: list[str]) -> None:
            for _ in range(100):
                with org_transaction(pool, org) as connection:
                    seen = bodies(connection)
                    if seen != expected:
                        wrong.append((org, seen))

        threads = [
            threading.Thread(target=work, args=arguments)
            for arguments in [(ORG_A, ["of org a", "two of a"]), (ORG_B, ["of org b"])] * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong, wrong


def refused_inside(connection: psycopg.Connection, org: UUID) -> str:
    """What a second binding gets in a transaction that has one; a savepoint keeps the transaction."""
    try:
        with connection.transaction():
            connection.execute("SELECT crm_tree.bind_org(%s::uuid)", (org,))
    except psycopg.Error as error:
        return error.sqlstate or ""
    return "00000"


main()
print("python: ok")
