//! What must cost the same at any length of history asks an index, never the table.

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

#[tokio::test]
async fn every_statement_of_every_trigger_uses_an_index() {
    let fixture = Fixture::new().await;
    let mut peek = fixture.peek().await;
    let texts: Vec<String> =
        sqlx::query_scalar("SELECT sql FROM sqlite_schema WHERE type = 'trigger'").fetch_all(&mut peek).await.unwrap();
    let mut statements = 0;
    for text in texts {
        let body = text.split_once("BEGIN").unwrap().1.rsplit_once("END").unwrap().0;
        for statement in
            body.split(';').map(str::trim).filter(|statement| !statement.is_empty() && !statement.starts_with("--"))
        {
            // Values of the row take the place of NEW and OLD.
            let statement = ["NEW.", "OLD."].iter().fold(statement.to_owned(), |text, row| {
                let parts = text.split(row);
                let mut out = String::new();
                for (n, part) in parts.enumerate() {
                    let part =
                        if n == 0 { part } else { part.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_') };
                    if n > 0 {
                        out.push('?');
                    }
                    out.push_str(part);
                }
                out
            });
            let found = plan(&mut peek, &statement).await;
            assert!(!found.contains("SCAN") && !found.contains("TEMP B-TREE"), "{statement}\n{found}");
            statements += 1;
        }
    }
    assert!(statements >= 12, "{statements}");
}

#[tokio::test]
async fn every_statement_of_claim_settle_and_feed_uses_an_index() {
    let fixture = Fixture::new().await;
    fixture.put(every("a")).await;
    let mut batch = sql::Batch::default();
    let verdicts =
        [acked(), refused(), Verdict::Unknown, Verdict::NotApplied, Verdict::Unsent { was_possibly_sent: false }];
    for verdict in verdicts {
        crate::store::advance::push_settle(
            &mut batch,
            &Settle { seq: 1, status: None, error: None, attempted: true, verdict },
            NOW,
        );
    }
    crate::store::advance::push_claim(
        &mut batch,
        &Claim { seq: 1, generation: 1, revision: 1, request: Some(vec![1]) },
        NOW,
    );
    feed::push(&mut batch);
    let mut connection = open::connection(fixture.path(), false).await.unwrap();
    open::set_up(&mut connection).await.unwrap();
    let mut statements = 0;
    for statement in batch.text().split_terminator(';') {
        let found = plan(&mut connection, statement).await;
        let tables = found.replace("SCAN temp.feed", "").replace("SCAN f", "");
        assert!(!tables.contains("SCAN"), "{statement}\n{found}");
        statements += 1;
    }
    assert!(statements > 15, "{statements}");
}

#[tokio::test]
async fn lists_of_what_is_not_settled_are_merged_from_indexes() {
    let fixture = Fixture::new().await;
    let arms = ["pending", "inflight", "failed"]
        .map(|state| format!("SELECT seq FROM entries WHERE state = '{state}' AND seq < ? AND account = ?"));
    let found =
        plan(&mut fixture.peek().await, &format!("{} ORDER BY seq DESC LIMIT ?", arms.join(" UNION ALL "))).await;
    for index in ["entries_pending", "entries_inflight", "entries_failed", "MERGE"] {
        assert!(found.contains(index), "{found}");
    }
    assert!(!found.contains("SCAN") && !found.contains("TEMP B-TREE"), "{found}");
}
