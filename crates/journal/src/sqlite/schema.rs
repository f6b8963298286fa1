//! The database's format: its mark, its version, its tables, and the way from every older version to this one.
//! Invariant: a fresh journal and an upgraded one have the same tables, word for word.

use rusqlite::{Connection, Transaction};

/// In the database's header, so that `file` and ostler know whose it is: "oslr".
const APPLICATION_ID: i64 = 0x6f73_6c72;

/// The tables of a fresh journal.
const FRESH: &str = include_str!("schema.sql");

/// The way to version n + 1 from version n, by index n. Version 0 is an empty database.
const UPGRADES: &[&str] = &[FRESH];

/// The newest format, which this ostler writes.
pub(super) const VERSION: u32 = 1;
const _: () = assert!(UPGRADES.len() == VERSION as usize); // every version has its upgrade

/// What lies in a database.
pub(super) enum Found {
    /// Nothing at all.
    Empty,
    /// A journal in this format.
    Current,
    /// A journal in an older format.
    Older(u32),
    /// A journal in a newer format.
    Newer(u32),
    /// A journal whose tables are not those of its version.
    Altered,
    /// Something else.
    Foreign,
}

/// Looks at the header and the tables, and changes nothing.
pub(super) fn find(connection: &Connection) -> rusqlite::Result<Found> {
    let pragma = |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (id, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables = tables(connection)?;
    Ok(match (id, u32::try_from(version)) {
        (0, Ok(0)) if tables.is_empty() => Found::Empty,
        (APPLICATION_ID, Ok(found)) if found > VERSION => Found::Newer(found),
        (APPLICATION_ID, Ok(VERSION)) if tables == words(FRESH) => Found::Current,
        (APPLICATION_ID, Ok(found)) if (1..VERSION).contains(&found) => Found::Older(found),
        (APPLICATION_ID, _) => Found::Altered,
        _ => Found::Foreign,
    })
}

/// Makes the tables of a fresh journal.
pub(super) fn create(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(FRESH)?;
    stamp(transaction)
}

/// Takes every step from version `from` to the newest.
pub(super) fn upgrade(transaction: &Transaction<'_>, from: u32) -> rusqlite::Result<()> {
    let done = usize::try_from(from).unwrap_or(UPGRADES.len());
    for step in UPGRADES.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    stamp(transaction)
}

fn stamp(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"))
}

/// The statements that made the tables, each as one line.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.map(|sql| Ok(one_line(&sql?))).collect()
}

/// The statements of a script, without its comments, each as one line.
fn words(script: &str) -> Vec<String> {
    let code: Vec<&str> = script.lines().filter(|line| !line.starts_with("--")).collect();
    code.join("\n").split(';').map(one_line).filter(|statement| !statement.is_empty()).collect()
}

fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(make: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        let transaction = connection.transaction().unwrap();
        make(&transaction).unwrap();
        transaction.commit().unwrap();
        connection
    }

    #[test]
    fn all_upgrades_lead_to_a_fresh_journal() {
        let fresh = made(create);
        for from in 0..VERSION {
            let upgraded = made(|transaction| {
                let done = usize::try_from(from).unwrap();
                UPGRADES[..done].iter().try_for_each(|step| transaction.execute_batch(step))?;
                upgrade(transaction, from)
            });
            assert_eq!(tables(&upgraded).unwrap(), tables(&fresh).unwrap(), "from version {from}");
            assert!(matches!(find(&upgraded).unwrap(), Found::Current));
        }
        assert_eq!(tables(&fresh).unwrap().len(), 4);
    }

    #[test]
    fn others_are_told_apart() {
        let found = |sql: &str| {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(sql).unwrap();
            find(&connection).unwrap()
        };
        assert!(matches!(found(""), Found::Empty));
        assert!(matches!(found("CREATE TABLE facts (x)"), Found::Foreign));
        assert!(matches!(found("PRAGMA application_id = 7"), Found::Foreign));
        let ours = format!("PRAGMA application_id = {APPLICATION_ID};");
        assert!(matches!(found(&format!("{ours} PRAGMA user_version = 1; {FRESH}")), Found::Current));
        assert!(matches!(found(&format!("{ours} PRAGMA user_version = 2; {FRESH}")), Found::Newer(2)));
        assert!(matches!(found(&format!("{ours} PRAGMA user_version = 1;")), Found::Altered));
        assert!(matches!(found(&format!("{ours} {FRESH}")), Found::Altered));
        let more = "CREATE INDEX more ON facts (kind);";
        assert!(matches!(found(&format!("{ours} PRAGMA user_version = 1; {FRESH} {more}")), Found::Altered));
    }
}
