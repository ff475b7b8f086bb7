//! A new entry that nobody else's shares the commit with: one statement, where many take several. Every statement has a price of its
//! own, since its end is told to another thread.

use super::{NewEntry, sql::Batch};

/// Does for one row what several statements do for many. Temporary: belongs to the write connection.
pub(super) const SET_UP: &str = "
CREATE TEMP VIEW enqueuing AS SELECT NULL AS id, NULL AS account, NULL AS kind, NULL AS key, NULL AS queue, NULL AS content_type, NULL AS bytes,
    NULL AS device, NULL AS action, NULL AS payload_version, NULL AS now, NULL AS generation, NULL AS key_id, NULL AS wrapped_key,
    NULL AS digest, NULL AS params, NULL AS body, NULL AS most;
CREATE TEMP TRIGGER enqueuing_insert INSTEAD OF INSERT ON enqueuing BEGIN
    INSERT INTO sealed_under (account, key_id) VALUES (NEW.account, NEW.key_id);
    INSERT INTO lanes (account, kind, key, touched_at) SELECT NEW.account, NEW.kind, NEW.key, NEW.now WHERE NEW.key IS NOT NULL
        ON CONFLICT DO NOTHING;
    INSERT INTO entries (id, account, kind, key, queue, content_type, bytes, device, created_at, updated_at, action, payload_version,
            head, lane, base)
        SELECT NEW.id, NEW.account, NEW.kind, NEW.key, NEW.queue, NEW.content_type, NEW.bytes, NEW.device, NEW.now, NEW.now, NEW.action,
            NEW.payload_version, NEW.key IS NULL, l.lane, coalesce(l.seen, 0)
        FROM (SELECT 1) LEFT JOIN lanes l ON l.account = NEW.account AND l.kind = NEW.kind AND l.key = NEW.key;
    INSERT INTO payloads (seq, generation, key_id, wrapped_key, digest, params, body)
        VALUES ((SELECT max(seq) FROM entries), NEW.generation, NEW.key_id, NEW.wrapped_key, NEW.digest, NEW.params, NEW.body);
    INSERT INTO quota (account, most) VALUES (NEW.account, NEW.most);
END;";

/// One that depends on nothing, undoes nothing and is no file. By itself it is a transaction.
pub(super) fn push(batch: &mut Batch, device: uuid::Uuid, entry: &NewEntry, most: u64, now: i64) {
    batch.push(
        "INSERT INTO temp.enqueuing (id, account, kind, key, queue, content_type, bytes, device, action, payload_version, now, generation, \
             key_id, wrapped_key, digest, params, body, most) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    );
    let payload = &entry.payload;
    batch.bind_id(entry.id).bind(entry.account.clone()).bind(entry.kind.clone()).bind(entry.key.clone());
    batch.bind(entry.queue.as_str()).bind(entry.content_type.clone()).bind_u64(entry.bytes).bind_id(device);
    batch.bind(entry.action.map(|action| action.as_str())).bind(i64::from(entry.payload_version)).bind(now);
    batch.bind(i64::from(payload.generation)).bind(payload.key_id.to_vec()).bind(payload.wrapped_key.clone());
    batch.bind(payload.digest.clone()).bind(payload.params.clone()).bind(payload.body.clone()).bind_u64(most);
}
