//! What must cost the same at any length of history asks an index, never the table.

use sqlx::Row as _;

use super::*;

async fn plan(connection: &mut SqliteConnection, text: &str) -> String {
    let rows: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"))).fetch_all(connection).await.unwrap();
    rows.into_iter().map(|row| row.3).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn the_query_for_what_is_due_uses_its_partial_index() {
    let fixture = Fixture::new().await;
    let found = plan(&mut fixture.peek().await, HEADS).await;
    assert_eq!(found, "SEARCH entries USING INDEX entries_due (account=? AND kind=? AND seq>?)");
}

/// The statements of a trigger, with values in the place of `NEW` and `OLD`.
fn statements(trigger: &str) -> Vec<String> {
    let body = trigger.split_once("BEGIN").unwrap().1.rsplit_once("END").unwrap().0;
    let lines: Vec<&str> = body.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let value = |text: String, row: &str| {
        let mut parts = text.split(row);
        let mut out = parts.next().unwrap().to_owned();
        for part in parts {
            out.push('?');
            out.push_str(part.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'));
        }
        out
    };
    let whole = lines.join("\n");
    let each = whole.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    each.map(|statement| ["NEW.", "OLD."].into_iter().fold(statement.to_owned(), value)).collect()
}

#[tokio::test]
async fn every_statement_of_every_trigger_uses_an_index() {
    let fixture = Fixture::new().await;
    let mut connection = open::connection(fixture.path(), false, &Trial::default()).await.unwrap();
    open::set_up(&mut connection).await.unwrap();
    // Its plans name scans that run only while a constraint is violated.
    sqlx::raw_sql("PRAGMA foreign_keys = OFF").execute(&mut connection).await.unwrap();
    let triggers = "SELECT sql FROM sqlite_schema WHERE type = 'trigger' \
        UNION ALL SELECT sql FROM sqlite_temp_schema WHERE type = 'trigger'";
    let triggers: Vec<String> = sqlx::query_scalar(triggers).fetch_all(&mut connection).await.unwrap();
    let mut checked = 0;
    for statement in triggers.iter().flat_map(|trigger| statements(trigger)) {
        // The quota asks for the sum over a few rows: kinds by states.
        if statement.contains("RAISE") {
            continue;
        }
        let found = plan(&mut connection, &statement).await;
        let tables = found.replace("SCAN CONSTANT ROW", "").replace("SCAN (subquery-1)", "");
        assert!(!tables.contains("SCAN") && !tables.contains("TEMP B-TREE"), "{statement}\n{found}");
        checked += 1;
    }
    assert!(checked >= 25, "{checked}");
}

#[tokio::test]
async fn every_statement_of_the_feed_uses_an_index() {
    let fixture = Fixture::new().await;
    let mut batch = sql::Batch::default();
    feed::push(&mut batch);
    let mut connection = open::connection(fixture.path(), false, &Trial::default()).await.unwrap();
    open::set_up(&mut connection).await.unwrap();
    for statement in batch.text().split_terminator(';') {
        let found = plan(&mut connection, statement).await;
        let tables = found.replace("SCAN temp.feed", "").replace("SCAN feed", "").replace("SCAN f", "");
        assert!(!tables.contains("SCAN"), "{statement}\n{found}");
    }
}

#[tokio::test]
async fn lists_of_what_is_not_settled_are_merged_from_indexes() {
    let fixture = Fixture::new().await;
    let due = format!("{} AND kind = ?", list::DUE);
    let arms = [list::BEHIND, &due, "state = 'inflight'", "state = 'failed'"]
        .map(|arm| format!("SELECT seq FROM entries WHERE {arm} AND seq < ? AND account = ?"));
    let found =
        plan(&mut fixture.peek().await, &format!("{} ORDER BY seq DESC LIMIT ?", arms.join(" UNION ALL "))).await;
    for index in ["entries_behind", "entries_due", "entries_inflight", "entries_failed", "MERGE"] {
        assert!(found.contains(index), "{found}");
    }
    assert!(!found.contains("SCAN") && !found.contains("TEMP B-TREE"), "{found}");
}

/// What SQLite does for a statement: in which program (none: its own; else that of a trigger), and whether a statement of the trigger has begun.
async fn programs(connection: &mut SqliteConnection, text: &str) -> Vec<(Option<String>, bool, String)> {
    let text = sqlx::AssertSqlSafe(format!("EXPLAIN {text}"));
    let rows = sqlx::query(text).fetch_all(connection).await.unwrap();
    let (mut program, mut begun) = (None, false);
    let step = |row: &sqlx::sqlite::SqliteRow| {
        let (step, what): (String, Option<String>) = (row.get("opcode"), row.try_get("p4").ok());
        match step.as_str() {
            "Init" => (program, begun) = (what.filter(|what| what.starts_with("-- TRIGGER")), false),
            "Trace" => begun = true,
            _ => {}
        }
        (program.clone(), begun, step)
    };
    rows.iter().map(step).collect()
}

#[tokio::test]
async fn a_change_of_state_builds_no_table_of_its_own_to_find_out_whom_it_concerns() {
    let fixture = Fixture::new().await;
    let mut connection = fixture.peek().await;
    for text in [
        "UPDATE entries SET state = 'inflight', possibly_sent = 1 WHERE seq = 1",
        "INSERT INTO entries (id, account, kind, queue, content_type, bytes, device, created_at, updated_at) \
             VALUES (x'', '', '', 'every', '', 0, x'', 0, 0)",
        "UPDATE lanes SET thing = 'yes' WHERE lane = 1",
    ] {
        let steps = programs(&mut connection, text).await;
        assert!(steps.len() > 10, "{text}");
        let builds =
            steps.iter().find(|(program, begun, step)| step == "OpenEphemeral" && (program.is_none() || !begun));
        assert!(builds.is_none(), "{text}: {builds:?}: a list of three or more in a check, an index or a trigger");
    }
}
