//! Bind on entry, clear on exit: the `postgres` crate. Takes the connection string as its argument.

use postgres::{Client, Error, NoTls, Transaction};
use uuid::{Uuid, uuid};

const ORG_A: Uuid = uuid!("aaaaaaaa-0000-4000-8000-00000000000a");
const ORG_B: Uuid = uuid!("bbbbbbbb-0000-4000-8000-00000000000b");

/// Work in a transaction bound to one org. Its end takes the binding along: by commit where the work is
/// done, by rollback where it fails or panics.
fn in_org<T>(
    client: &mut Client,
    org: Uuid,
    user: Option<&str>,
    work: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut transaction = client.transaction()?;
    transaction.execute("SELECT crm_tree.bind_org($1::uuid, $2)", &[&org, &user])?;
    let result = work(&mut transaction)?;
    transaction.commit()?;
    Ok(result)
}

/// The same by a signed token. A parameter, so that no statement's text has it.
fn with_token<T>(
    client: &mut Client,
    token: &str,
    work: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut transaction = client.transaction()?;
    transaction.execute("SELECT crm_tree.bind_token($1)", &[&token])?;
    let result = work(&mut transaction)?;
    transaction.commit()?;
    Ok(result)
}

fn bodies(transaction: &mut Transaction<'_>) -> Result<Vec<String>, Error> {
    let rows = transaction.query("SELECT body FROM drivers.note ORDER BY id", &[])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn sqlstate<T>(result: Result<T, Error>) -> String {
    result.err().and_then(|e| e.code().map(|code| code.code().to_owned())).unwrap_or_default()
}

fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).expect("usage: crm_tree_example <connection string>");
    let mut client = Client::connect(&url, NoTls)?;

    let seen = in_org(&mut client, ORG_A, Some("ann"), |t| {
        let seen = bodies(t)?;
        t.execute("INSERT INTO drivers.note (id, body) VALUES (2, 'two of a')", &[])?;
        Ok(seen)
    })?;
    assert_eq!(seen, ["of org a"]);
    assert_eq!(in_org(&mut client, ORG_B, Some("bob"), bodies)?, ["of org b"]);

    // After a request that failed half way, and for a statement that forgot to bind.
    let failed = in_org(&mut client, ORG_A, None, |t| {
        t.execute("DELETE FROM drivers.note", &[])?;
        t.execute("SELECT 1 / 0", &[])
    });
    assert_eq!(sqlstate(failed), "22012");
    assert_eq!(sqlstate(client.execute("SELECT * FROM drivers.note", &[])), "42501");
    assert_eq!(in_org(&mut client, ORG_A, None, bodies)?, ["of org a", "two of a"]);
    let second =
        in_org(&mut client, ORG_A, None, |t| t.execute("SELECT crm_tree.bind_org($1::uuid)", &[&ORG_B]));
    assert_eq!(sqlstate(second), "42501");

    // A statement prepared for one org serves the next.
    let prepared = client.prepare("SELECT body FROM drivers.note WHERE id = $1")?;
    for (org, expected) in [(ORG_A, "of org a"), (ORG_B, "of org b"), (ORG_A, "of org a")] {
        let seen: String = in_org(&mut client, org, None, |t| Ok(t.query_one(&prepared, &[&1])?.get(0)))?;
        assert_eq!(seen, expected);
    }
    assert_eq!(sqlstate(client.query(&prepared, &[&1])), "42501");

    let refused = with_token(&mut client, "no.token.this", bodies).expect_err("it does not hold");
    assert!(!format!("{refused:?}").contains("no.token.this"));
    println!("rust: ok");
    Ok(())
}
