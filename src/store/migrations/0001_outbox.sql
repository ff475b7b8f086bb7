-- What is `lane`, `head`, `base`, `possibly_sent`: see the crate documentation. Payloads, params and requests are ciphertext.
-- SQLite builds a table of its own for a list of three and more, each time that a row is looked at: lists in checks, predicates and triggers
-- have two. Revisions stay below 2^53, so that JSON numbers hold them. Timestamps are for display: nothing is ordered by them.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY NOT NULL,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Which master keys the rows were written with.
CREATE TABLE keys (
    account    TEXT NOT NULL,
    key_id     BLOB NOT NULL,
    current    INTEGER NOT NULL CHECK (current IN (0, 1)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account, key_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX keys_current ON keys (account) WHERE current = 1;

-- Accounts whose rows are going, all of them: nothing of them is read or written from the moment that one is in here. It leaves
-- with the last of the rows, and after its key where that goes too, so a process that is killed in between is made up for.
CREATE TABLE leaving (
    account    TEXT PRIMARY KEY NOT NULL,
    -- The source of keys still has the key, and is to forget it.
    forget_key INTEGER NOT NULL CHECK (forget_key IN (0, 1)),
    since      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys of accounts that left, and those that a rotation is done with. Another process may still have one in memory: nothing is written under
-- it any more for an account that does not have it (again, or in common with the one that left), which `keys` says.
CREATE TABLE gone_keys (key_id BLOB PRIMARY KEY NOT NULL) STRICT, WITHOUT ROWID;

-- Where an account has had credentials that only the app can give: without them nothing of it is sent there. Never the credentials.
CREATE TABLE signed_in (
    account TEXT NOT NULL,
    origin  TEXT NOT NULL,
    PRIMARY KEY (account, origin)
) STRICT, WITHOUT ROWID;

-- Server floors, as the time that remained when they were noted.
CREATE TABLE floors (
    name         TEXT PRIMARY KEY NOT NULL,
    remaining_ms INTEGER NOT NULL,
    noted_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Kept by triggers, so that a badge costs the same at any number of rows.
CREATE TABLE counts (
    account TEXT NOT NULL,
    kind    TEXT NOT NULL,
    state   TEXT NOT NULL,
    n       INTEGER NOT NULL CHECK (n >= 0),
    PRIMARY KEY (account, kind, state)
) STRICT, WITHOUT ROWID;

-- What is known of one thing. Outlives its entries.
CREATE TABLE lanes (
    lane         INTEGER PRIMARY KEY,
    account      TEXT NOT NULL,
    kind         TEXT NOT NULL,
    key          TEXT NOT NULL,
    -- Highest revision of ours that may be on the server.
    revision     INTEGER NOT NULL DEFAULT 0 CHECK (revision BETWEEN 0 AND 9007199254740991),
    -- Highest revision that the server is known to hold.
    seen         INTEGER NOT NULL DEFAULT 0 CHECK (seen BETWEEN 0 AND 9007199254740991),
    canonical_id TEXT,
    etag         TEXT,
    -- Whether the thing exists on the server.
    thing        TEXT NOT NULL DEFAULT 'unknown' CHECK (thing IN ('yes', 'no') OR thing = 'unknown'),
    -- When the server last said something of it.
    touched_at   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (account, kind, key)
) STRICT;
CREATE INDEX lanes_touched ON lanes (touched_at);

-- Of a lane that is forgotten, its revision is not: a lane that begins anew goes above it. The server would otherwise name a write
-- of this device that is above all that the lane has used, which is how an older copy of the database is told.
CREATE TRIGGER lanes_forget AFTER DELETE ON lanes WHEN OLD.revision > 0 BEGIN
    INSERT INTO meta (name, value) VALUES ('forgotten revision', OLD.revision)
        ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value);
END;
CREATE TRIGGER lanes_begin AFTER INSERT ON lanes
    WHEN NEW.revision < coalesce((SELECT value FROM meta WHERE name = 'forgotten revision'), 0) BEGIN
    UPDATE lanes SET revision = (SELECT value FROM meta WHERE name = 'forgotten revision') WHERE lane = NEW.lane;
END;

-- AUTOINCREMENT: a seq names one entry for ever, also after the newest row was deleted.
CREATE TABLE entries (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    account         TEXT NOT NULL,
    kind            TEXT NOT NULL,
    key             TEXT,
    -- Absent for an entry without a key, which is a lane of its own, and for one that left its lane with a conflict. No
    -- reference: the memory of a lane is pruned when nothing of it can come back, and looking for rows of history that once
    -- belonged to it would take an index of them all.
    lane            INTEGER,
    -- 1 for the one entry of its lane that is next, in flight, or failed and in the way: the first that is pending, in flight or
    -- failed, unless it came back into its lane while another was under way. Kept by triggers; means nothing for settled rows.
    head            INTEGER NOT NULL DEFAULT 0 CHECK (head IN (0, 1)),
    state           TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'inflight') OR state IN ('acked', 'failed') OR state = 'superseded'),
    queue           TEXT NOT NULL CHECK (queue IN ('latest', 'every')),
    -- create, update or delete, where that was said.
    action          TEXT CHECK (action IN ('create', 'update') OR action = 'delete'),
    -- A delete that cancels out what was never sent to a lane whose thing was never created.
    annihilates     INTEGER NOT NULL DEFAULT 0 CHECK (annihilates IN (0, 1)),
    -- How many of its dependencies are not met; one more while it is paused.
    unmet           INTEGER NOT NULL DEFAULT 0 CHECK (unmet >= 0),
    -- Somebody wants this one to wait. Pending and in-flight entries only.
    paused          INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    content_type    TEXT NOT NULL,
    bytes           INTEGER NOT NULL,
    -- The app's own version of the payload's form.
    payload_version INTEGER NOT NULL DEFAULT 0,
    reason          TEXT,
    status          INTEGER,
    last_error      TEXT,
    attempts        INTEGER NOT NULL DEFAULT 0,
    possibly_sent   INTEGER NOT NULL DEFAULT 0 CHECK (possibly_sent IN (0, 1)),
    -- When the first byte under the current idempotency key may have left.
    first_sent_at   INTEGER,
    -- The highest server revision that the lane had seen when this was enqueued.
    base            INTEGER NOT NULL DEFAULT 0,
    -- On the wire; frozen at the first claim.
    revision        INTEGER CHECK (revision BETWEEN 0 AND 9007199254740991),
    device          BLOB NOT NULL,
    -- n of the idempotency key "<id>.<n>".
    key_suffix      INTEGER NOT NULL DEFAULT 0,
    -- The user said: send it although it may have been applied.
    forced          INTEGER NOT NULL DEFAULT 0,
    canonical_id    TEXT,
    -- The id of the newer entry that replaced it.
    successor       BLOB,
    -- Beaten on the server: its payload is kept for a while.
    lost            INTEGER NOT NULL DEFAULT 0 CHECK (lost IN (0, 1)),
    -- It met a newer write on the server, and nobody has read of it yet.
    notice          INTEGER NOT NULL DEFAULT 0 CHECK (notice IN (0, 1)),
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;

-- What is due. A query repeats the literal predicate.
CREATE INDEX entries_due ON entries (account, kind, seq) WHERE state = 'pending' AND head = 1 AND unmet = 0;
-- Who is next in a lane, however long its history is.
CREATE INDEX entries_lane ON entries (lane, seq) WHERE lane IS NOT NULL AND state NOT IN ('acked', 'superseded');
-- What is pending and not due: with the one above, every pending row is in one index and in no other of these two. An index more
-- would cost every new entry a page.
CREATE INDEX entries_behind ON entries (account, seq) WHERE state = 'pending' AND (head = 0 OR unmet > 0);
-- Lists of what is not settled, and recovery.
CREATE INDEX entries_inflight ON entries (account, seq) WHERE state = 'inflight';
CREATE INDEX entries_failed ON entries (account, seq) WHERE state = 'failed';
-- What may be pruned.
CREATE INDEX entries_settled ON entries (seq) WHERE state IN ('acked', 'superseded') AND lost = 0;
CREATE INDEX entries_lost ON entries (notice, updated_at) WHERE lost = 1;
-- Conflicts that nobody has read of.
CREATE INDEX entries_notice ON entries (account, seq) WHERE notice = 1;

-- What comes before an entry. Kept after it is met, with the canonical id that a reference got.
CREATE TABLE dependencies (
    seq          INTEGER NOT NULL REFERENCES entries (seq) ON DELETE CASCADE,
    -- As it was named.
    parent       BLOB NOT NULL,
    -- Which entry is waited for: the parent, or whatever replaced it.
    waits        BLOB NOT NULL,
    needs_id     INTEGER NOT NULL CHECK (needs_id IN (0, 1)),
    -- 1 if it is to be followed whatever the payload names: an edit forgets the others.
    told         INTEGER NOT NULL CHECK (told IN (0, 1)),
    state        TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'met') OR state = 'gone'),
    canonical_id TEXT,
    PRIMARY KEY (seq, parent)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependencies_waiting ON dependencies (waits) WHERE state = 'waiting';

-- Idempotency keys that an entry gave up after a definitive answer: the server may still name them.
CREATE TABLE former_keys (
    seq        INTEGER NOT NULL REFERENCES entries (seq) ON DELETE CASCADE,
    suffix     INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    revision   INTEGER NOT NULL,
    PRIMARY KEY (seq, suffix)
) STRICT, WITHOUT ROWID;

-- Beside the entries: a state change must not rewrite the payload.
CREATE TABLE payloads (
    seq         INTEGER PRIMARY KEY REFERENCES entries (seq) ON DELETE CASCADE,
    generation  INTEGER NOT NULL,
    key_id      BLOB NOT NULL,
    -- Key and digest outlive the body, so that the same id with the same bytes is known again.
    wrapped_key BLOB NOT NULL,
    digest      BLOB NOT NULL,
    params      BLOB,
    body        BLOB
) STRICT;

-- The frozen request of an entry that may have been sent.
CREATE TABLE requests (
    seq    INTEGER PRIMARY KEY REFERENCES entries (seq) ON DELETE CASCADE,
    sealed BLOB NOT NULL
) STRICT;

-- Entries whose payload is a file. A small one is the payload's body; of others that is the description.
CREATE TABLE files (
    seq      INTEGER PRIMARY KEY REFERENCES entries (seq) ON DELETE CASCADE,
    -- Its name in the spool, as long as it is needed there.
    spool    TEXT,
    -- What it takes there.
    bytes    INTEGER NOT NULL DEFAULT 0,
    -- The description of a small one.
    sealed   BLOB,
    -- How far its upload is, and where.
    progress BLOB,
    -- How many bytes the server said that it has.
    uploaded INTEGER NOT NULL DEFAULT 0,
    -- Bytes may have left with which the server has all of it: until then nothing can have been applied.
    begun    INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX files_spool ON files (spool) WHERE spool IS NOT NULL;

-- What names and folders of an account's watches are hashed and sealed with: a data key of its own, so that a rotation changes no hash.
CREATE TABLE watch_keys (
    account     TEXT PRIMARY KEY NOT NULL,
    id          BLOB NOT NULL CHECK (length(id) = 16),
    key_id      BLOB NOT NULL,
    wrapped_key BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Folders that are watched.
CREATE TABLE watches (
    id      BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    account TEXT NOT NULL,
    kind    TEXT NOT NULL,
    -- Keyed hash of kind and folder: each is watched once.
    tag     BLOB NOT NULL,
    -- Which folder, and how.
    sealed  BLOB NOT NULL,
    -- What the system calls the folder, since the first look at it.
    folder  BLOB,
    UNIQUE (account, tag)
) STRICT, WITHOUT ROWID;

-- Files of watched folders as they were enqueued last.
CREATE TABLE watched (
    watch    BLOB NOT NULL REFERENCES watches (id) ON DELETE CASCADE,
    -- Keyed hash of folder and path, which is also its lane.
    tag      BLOB NOT NULL,
    -- What the system says of it: while all of it is the same, nothing is read. Times are nanoseconds since 1970, compared and not ordered.
    file     INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    changed  INTEGER NOT NULL,
    -- Keyed hash of its content.
    hash     BLOB NOT NULL,
    -- The entry that carries it, as long as it is not acknowledged.
    entry    BLOB,
    acked    INTEGER NOT NULL DEFAULT 0 CHECK (acked IN (0, 1)),
    PRIMARY KEY (watch, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX watched_entry ON watched (entry) WHERE entry IS NOT NULL;

-- What no entry needs any more: files in the spool, and unfinished uploads with what it takes to end them.
CREATE TABLE leftovers (
    number       INTEGER PRIMARY KEY,
    spool        TEXT,
    account      TEXT NOT NULL,
    id           BLOB NOT NULL,
    kind         TEXT NOT NULL,
    key          TEXT,
    content_type TEXT NOT NULL,
    generation   INTEGER NOT NULL,
    key_id       BLOB NOT NULL,
    wrapped_key  BLOB NOT NULL,
    progress     BLOB,
    request      BLOB
) STRICT;

-- What was discarded although it may have been applied.
CREATE TABLE tombstones (
    id         BLOB PRIMARY KEY NOT NULL,
    account    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    key        TEXT,
    revision   INTEGER,
    key_suffix INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_age ON tombstones (created_at);

-- Which canonical id an entry got; kept longer than the entry, for what refers to it.
CREATE TABLE mappings (
    id           BLOB PRIMARY KEY NOT NULL,
    account      TEXT NOT NULL,
    kind         TEXT NOT NULL,
    canonical_id TEXT NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX mappings_age ON mappings (created_at);

CREATE TRIGGER entries_count_insert AFTER INSERT ON entries BEGIN
    INSERT INTO counts (account, kind, state, n) VALUES (NEW.account, NEW.kind, NEW.state, 1)
        ON CONFLICT (account, kind, state) DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER entries_count_state AFTER UPDATE OF state ON entries WHEN OLD.state <> NEW.state BEGIN
    UPDATE counts SET n = n - 1 WHERE account = OLD.account AND kind = OLD.kind AND state = OLD.state;
    INSERT INTO counts (account, kind, state, n) VALUES (NEW.account, NEW.kind, NEW.state, 1)
        ON CONFLICT (account, kind, state) DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER entries_count_delete AFTER DELETE ON entries BEGIN
    UPDATE counts SET n = n - 1 WHERE account = OLD.account AND kind = OLD.kind AND state = OLD.state;
END;

-- A new entry replaces the run of `latest` ones right before it that no server can hold, then takes its place in the lane.
-- An `every` entry, one in flight and one that may have been sent end the run. So does one that others depend on, if the new
-- one deletes or depends on something itself: the first would answer for what it is not, the second could wait for itself.
CREATE TRIGGER entries_enter AFTER INSERT ON entries WHEN NEW.lane IS NOT NULL AND NEW.state NOT IN ('acked', 'superseded') BEGIN
    UPDATE entries SET state = 'superseded', successor = NEW.id, reason = NULL, updated_at = NEW.updated_at
        WHERE NEW.queue = 'latest' AND NEW.state = 'pending'
          AND lane = NEW.lane AND state NOT IN ('acked', 'superseded') AND seq < NEW.seq
          AND seq > coalesce((
              SELECT seq FROM entries b
              WHERE b.lane = NEW.lane AND b.state NOT IN ('acked', 'superseded') AND b.seq < NEW.seq
                AND NOT (b.queue = 'latest' AND b.state IN ('pending', 'failed') AND b.possibly_sent = 0
                    AND NOT ((NEW.unmet > 0 OR NEW.action IS 'delete')
                        AND EXISTS (SELECT 1 FROM dependencies d WHERE d.waits = b.id AND d.state = 'waiting')))
              ORDER BY b.seq DESC LIMIT 1), 0);
    UPDATE entries SET head = 1
        WHERE seq = NEW.seq AND head = 0
          AND NOT EXISTS (
              SELECT 1 FROM entries
              WHERE lane = NEW.lane AND state NOT IN ('acked', 'superseded') AND seq < NEW.seq);
END;

-- Settled, or gone from its lane with a conflict: the next one is first. A lane has one head, so when that one goes there is none, and
-- when another one goes it is still there; to look for it would be to look at the whole lane.
CREATE TRIGGER entries_leave AFTER UPDATE OF state ON entries
    WHEN OLD.lane IS NOT NULL AND OLD.head = 1 AND OLD.state NOT IN ('acked', 'superseded')
        AND (NEW.state IN ('acked', 'superseded') OR NEW.lane IS NULL) BEGIN
    UPDATE entries SET head = 1
        WHERE head = 0 AND seq = (
            SELECT seq FROM entries
            WHERE lane = OLD.lane AND state NOT IN ('acked', 'superseded') ORDER BY seq LIMIT 1);
END;

-- One that comes back takes its old place, but lets go first what is under way or may have been sent.
CREATE TRIGGER entries_return AFTER UPDATE OF state ON entries
    WHEN NEW.lane IS NOT NULL AND NEW.state NOT IN ('acked', 'superseded')
        AND (OLD.lane IS NULL OR OLD.state IN ('acked', 'superseded')) BEGIN
    UPDATE entries SET head = 0
        WHERE lane = NEW.lane AND state NOT IN ('acked', 'superseded') AND head = 1
          AND (seq = NEW.seq OR seq > NEW.seq AND state <> 'inflight' AND possibly_sent = 0);
    UPDATE entries SET head = 1
        WHERE seq = (
            SELECT seq FROM entries
            WHERE lane = NEW.lane AND state NOT IN ('acked', 'superseded') ORDER BY seq LIMIT 1)
          AND NOT EXISTS (
            SELECT 1 FROM entries
            WHERE lane = NEW.lane AND state NOT IN ('acked', 'superseded') AND head = 1);
END;

CREATE TRIGGER entries_gone AFTER DELETE ON entries
    WHEN OLD.lane IS NOT NULL AND OLD.head = 1 AND OLD.state NOT IN ('acked', 'superseded') BEGIN
    UPDATE entries SET head = 1
        WHERE head = 0 AND seq = (
            SELECT seq FROM entries
            WHERE lane = OLD.lane AND state NOT IN ('acked', 'superseded') ORDER BY seq LIMIT 1);
END;

-- What nobody will send again goes in the same commit.
CREATE TRIGGER entries_forget AFTER UPDATE OF state ON entries
    WHEN NEW.state IN ('acked', 'superseded') AND OLD.state <> NEW.state AND NEW.lost = 0 BEGIN
    UPDATE payloads SET body = NULL, params = NULL WHERE seq = NEW.seq;
    DELETE FROM requests WHERE seq = NEW.seq;
END;

-- A pause is over once there is nothing to wait with: what is retried later was not paused.
CREATE TRIGGER entries_unpause AFTER UPDATE OF state ON entries
    WHEN NEW.paused = 1 AND NEW.state <> 'pending' AND NEW.state <> 'inflight' BEGIN
    UPDATE entries SET paused = 0, unmet = unmet - 1 WHERE seq = NEW.seq;
END;

-- The row of an entry may be pruned before somebody looks.
CREATE TRIGGER watched_acked AFTER UPDATE OF state ON entries
    WHEN NEW.state = 'acked' AND OLD.state <> 'acked' AND EXISTS (SELECT 1 FROM watched WHERE entry = NEW.id) BEGIN
    UPDATE watched SET acked = 1, entry = NULL WHERE entry = NEW.id;
END;

-- How many bytes waiting files take in the spool.
CREATE TRIGGER files_enter AFTER INSERT ON files WHEN NEW.spool IS NOT NULL BEGIN
    INSERT INTO meta (name, value) VALUES ('spool bytes', NEW.bytes) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value;
END;
CREATE TRIGGER files_leave AFTER UPDATE OF spool ON files WHEN OLD.spool IS NOT NULL AND NEW.spool IS NULL BEGIN
    UPDATE meta SET value = value - OLD.bytes WHERE name = 'spool bytes';
END;
CREATE TRIGGER files_gone AFTER DELETE ON files WHEN OLD.spool IS NOT NULL BEGIN
    UPDATE meta SET value = value - OLD.bytes WHERE name = 'spool bytes';
END;

-- A file goes with the payload that it belongs to, after the commit. An upload of which the server cannot have everything is ended.
CREATE TRIGGER files_forget AFTER UPDATE OF body ON payloads
    WHEN OLD.body IS NOT NULL AND NEW.body IS NULL AND EXISTS (SELECT 1 FROM files WHERE seq = NEW.seq) BEGIN
    INSERT INTO leftovers (spool, account, id, kind, key, content_type, generation, key_id, wrapped_key, progress, request)
        SELECT f.spool, e.account, e.id, e.kind, e.key, e.content_type, OLD.generation, OLD.key_id, OLD.wrapped_key,
               CASE WHEN e.state = 'superseded' AND f.begun = 0 THEN f.progress END, r.sealed
        FROM files f JOIN entries e ON e.seq = f.seq LEFT JOIN requests r ON r.seq = f.seq
        WHERE f.seq = NEW.seq AND (f.spool IS NOT NULL OR f.progress IS NOT NULL);
    UPDATE files SET spool = NULL, sealed = NULL, progress = NULL WHERE seq = NEW.seq;
END;
CREATE TRIGGER files_discard BEFORE DELETE ON entries
    WHEN EXISTS (SELECT 1 FROM files WHERE seq = OLD.seq AND (spool IS NOT NULL OR progress IS NOT NULL)) BEGIN
    INSERT INTO leftovers (spool, account, id, kind, key, content_type, generation, key_id, wrapped_key, progress, request)
        SELECT f.spool, OLD.account, OLD.id, OLD.kind, OLD.key, OLD.content_type, p.generation, p.key_id, p.wrapped_key,
               CASE WHEN f.begun = 0 THEN f.progress END, r.sealed
        FROM files f JOIN payloads p ON p.seq = f.seq LEFT JOIN requests r ON r.seq = f.seq WHERE f.seq = OLD.seq;
END;

-- Delivered, or beaten by a write that made the thing known all the same: what waited for it may go.
CREATE TRIGGER dependencies_met AFTER UPDATE OF state ON entries
    WHEN OLD.state <> NEW.state AND (NEW.state = 'acked' OR NEW.state = 'superseded' AND NEW.successor IS NULL)
        AND EXISTS (SELECT 1 FROM dependencies WHERE waits = NEW.id AND state = 'waiting') BEGIN
    UPDATE entries SET unmet = unmet - (
            SELECT count(*) FROM dependencies d WHERE d.waits = NEW.id AND d.state = 'waiting' AND d.seq = entries.seq
                AND (NEW.state = 'acked' OR d.needs_id = 0 OR NEW.canonical_id IS NOT NULL))
        WHERE seq IN (SELECT seq FROM dependencies WHERE waits = NEW.id AND state = 'waiting');
    UPDATE dependencies SET state = 'met', canonical_id = NEW.canonical_id
        WHERE waits = NEW.id AND state = 'waiting' AND (NEW.state = 'acked' OR needs_id = 0 OR NEW.canonical_id IS NOT NULL);
END;

-- Given up for what the server holds, which has no name that could be referred to.
CREATE TRIGGER dependencies_dropped AFTER UPDATE OF state, lost ON entries
    WHEN NEW.state = 'superseded' AND NEW.lost = 0 AND NEW.successor IS NULL AND NEW.canonical_id IS NULL
        AND EXISTS (SELECT 1 FROM dependencies WHERE waits = NEW.id AND state = 'waiting' AND needs_id = 1) BEGIN
    UPDATE entries SET state = 'failed', reason = 'parent-gone', last_error = 'an entry that it depends on was given up before it had an id',
            updated_at = NEW.updated_at
        WHERE state = 'pending' AND seq IN (SELECT seq FROM dependencies WHERE waits = NEW.id AND state = 'waiting' AND needs_id = 1);
    UPDATE dependencies SET state = 'gone' WHERE waits = NEW.id AND state = 'waiting' AND needs_id = 1;
END;

-- Replaced: what waited for it waits for the newer one.
CREATE TRIGGER dependencies_follow AFTER UPDATE OF state ON entries
    WHEN NEW.state = 'superseded' AND OLD.state <> NEW.state AND NEW.successor IS NOT NULL
        AND EXISTS (SELECT 1 FROM dependencies WHERE waits = NEW.id AND state = 'waiting') BEGIN
    UPDATE dependencies SET waits = NEW.successor WHERE waits = NEW.id AND state = 'waiting';
END;

-- Gone for good: what waited for it cannot be delivered as it was meant. The canonical id outlives the row.
CREATE TRIGGER dependencies_gone AFTER DELETE ON entries
    WHEN EXISTS (SELECT 1 FROM dependencies WHERE waits = OLD.id AND state = 'waiting') BEGIN
    UPDATE entries SET state = 'failed', reason = 'parent-gone', last_error = 'an entry that it depends on was removed before it was delivered',
            updated_at = OLD.updated_at
        WHERE state = 'pending' AND seq IN (SELECT seq FROM dependencies WHERE waits = OLD.id AND state = 'waiting');
    UPDATE dependencies SET state = 'gone' WHERE waits = OLD.id AND state = 'waiting';
END;
CREATE TRIGGER entries_map AFTER DELETE ON entries WHEN OLD.state = 'acked' AND OLD.canonical_id IS NOT NULL BEGIN
    INSERT OR IGNORE INTO mappings (id, account, kind, canonical_id, created_at)
        VALUES (OLD.id, OLD.account, OLD.kind, OLD.canonical_id, OLD.updated_at);
END;
