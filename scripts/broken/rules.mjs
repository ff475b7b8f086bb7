// What is broken, one thing each. `source` edits Rust, where BROKEN asks whether this is the one; `sql` edits every statement that runs,
// `trigger` one trigger of the schema. What is to be found has to be there. `test` names a test of its own for what histories seldom meet.

export const rules = [
  {
    name: 'claim-unmarked',
    what: 'A claim does not mark its entry as possibly sent',
    sql: ["state = 'inflight', possibly_sent = 1,", "state = 'inflight',"],
  },
  {
    name: 'spent-key-stays',
    what: 'After a definitive answer the key stays',
    sql: ["key_suffix = key_suffix + (NEW.verdict IN ('not applied', 'rebase'))", 'key_suffix = key_suffix'],
  },
  {
    name: 'open-key-changes',
    what: 'After an unknown outcome the key changes',
    sql: ["key_suffix + (NEW.verdict IN ('not applied', 'rebase'))", "key_suffix + (NEW.verdict IN ('not applied', 'rebase', 'unknown'))"],
  },
  {
    name: 'revision-thaws',
    what: 'The revision is not frozen with the request',
    source: ['src/engine/prepare.rs', 'let own = row.revision.filter(', 'let own = row.revision.filter(|_| !BROKEN).filter('],
  },
  {
    name: 'below-own',
    what: 'A new revision need not be above what the device sent',
    source: ['src/engine/prepare.rs', ' row.lane_revision))', ' if BROKEN { 0 } else { row.lane_revision }))'],
  },
  {
    name: 'base-forgotten',
    what: 'A new revision need not be above what was known when the entry was enqueued',
    source: ['src/engine/prepare.rs', 'revision::next(row.base,', 'revision::next(if BROKEN { 0 } else { row.base },'],
  },
  {
    name: 'ack-unlearned',
    what: 'An ACK teaches its lane no revision of its own',
    sql: ['max(revision, NEW.revision, coalesce((SELECT revision FROM entries WHERE seq = NEW.seq), 0))', 'revision'],
  },
  {
    name: 'ack-unseen',
    what: 'An ACK teaches its lane nothing of the server',
    sql: ['max(seen, NEW.revision, coalesce((SELECT revision FROM entries WHERE seq = NEW.seq), 0))', 'seen'],
  },
  {
    name: 'first-conflict-loses',
    what: 'The first conflict of a lane teaches nothing',
    source: ['src/engine/conflict.rs', '_ if first =>', '_ if first && !BROKEN =>'],
  },
  {
    name: 'echo-unknown',
    what: 'An own echo is not recognised',
    source: ['src/engine/conflict.rs', 'if self.is_echo(learned, held) {', 'if !BROKEN && self.is_echo(learned, held) {'],
  },
  {
    name: 'open-replaced',
    what: 'A newer entry replaces one that may have been sent',
    trigger: ['entries_enter', "b.state IN ('pending', 'failed') AND b.possibly_sent = 0", "b.state IN ('pending', 'failed')"],
  },
  {
    name: 'open-replaced-late',
    what: 'What is settled as possibly sent gives way to the newer one behind it',
    test: '`a_refused_entry_holds_its_lane_when_what_follows_cannot_replace_it` (src/store/tests/advance.rs)',
    sql: ["state IN ('pending', 'failed') AND possibly_sent = 0 AND queue = 'latest'", "state IN ('pending', 'failed') AND queue = 'latest'"],
  },
  {
    name: 'open-annihilated',
    what: 'A delete cancels out a create that may have been sent',
    sql: ["(b.state = 'inflight' OR b.possibly_sent = 1 OR EXISTS", "(b.state = 'inflight' OR EXISTS"],
  },
  {
    name: 'two-heads',
    what: 'Two entries of a lane are first in it',
    trigger: ['entries_enter', 'WHERE seq = NEW.seq AND head = 0\n          AND NOT EXISTS (', 'WHERE seq = NEW.seq OR seq = NEW.seq AND NOT EXISTS ('],
  },
  {
    name: 'parents-ignored',
    what: 'Dependencies are not waited for',
    sql: ["ELSE 'waiting' END", "ELSE 'met' END"],
  },
  {
    name: 'successor-ignored',
    what: 'Dependents do not follow a replaced parent to its successor',
    trigger: ['dependencies_follow', 'SET waits = NEW.successor', 'SET waits = waits'],
  },
  {
    name: 'orphans-wait',
    what: 'What depends on a discarded entry goes on waiting for it',
    trigger: ['dependencies_gone', "WHERE state = 'pending' AND seq IN", 'WHERE 0 AND seq IN'],
  },
  {
    name: 'open-edited',
    what: 'What may have been sent can be edited',
    test: '`what_the_server_may_have_is_not_edited_and_says_what_to_do` (src/outbox/tests/edit.rs)',
    source: ['src/outbox/edit.rs', '&& !entry.possibly_sent;', '&& (BROKEN || !entry.possibly_sent);'],
    sql: ["state IN ('pending', 'failed') AND possibly_sent = 0 OR ", "state IN ('pending', 'failed') OR "],
  },
  {
    name: 'edit-keeps-key',
    what: 'An edited entry keeps the key of what was refused',
    sql: ['key_suffix = key_suffix + (revision IS NOT NULL)', 'key_suffix = key_suffix'],
  },
  {
    name: 'revival-keeps-key',
    what: 'A revived entry keeps its old key',
    sql: ['key_suffix = key_suffix + 1, revision = NULL, updated_at = ?', 'revision = NULL, updated_at = ?'],
  },
  {
    name: 'revival-below',
    what: 'A revived entry does not go above what beat it',
    test: '`mine_is_sent_above_what_the_server_holds` (src/outbox/tests/conflicts.rs)',
    sql: [
      'base = max(base, coalesce((SELECT l.seen FROM lanes l WHERE l.account = entries.account AND l.kind = entries.kind AND l.key = entries.key), 0)) WHERE',
      'base = base WHERE',
    ],
  },
  {
    name: 'death-forgets',
    what: 'A start forgets that what was under way may have been sent',
    sql: ["SET state = 'pending', forced = 0, updated_at = ? WHERE", "SET state = 'pending', possibly_sent = 0, forced = 0, updated_at = ? WHERE"],
  },
  {
    name: 'death-leaves',
    what: 'A start leaves in flight what was under way',
    sql: ["WHERE state = 'inflight' RETURNING seq", "WHERE state = 'inflight' AND 0 RETURNING seq"],
  },
  {
    name: 'death-keeps-force',
    what: 'After a death `force` counts once more',
    test: '`permission_to_send_once_more_ends_with_the_process_that_used_it` (src/store/tests/advance.rs)',
    sql: ["SET state = 'pending', forced = 0, updated_at = ? WHERE", "SET state = 'pending', updated_at = ? WHERE"],
  },
  {
    name: 'doomed-counts',
    what: 'After a death, what was claimed only to be failed counts as sent',
    sql: ['AND length(r.sealed) <= 1)', 'AND 0)'],
  },
  {
    name: 'given-back-marked',
    what: 'What is given back unsent stays marked as possibly sent',
    source: ['src/engine/commit.rs', 'Judgement::unsent(attempt.was_possibly_sent)', 'Judgement::unsent(attempt.was_possibly_sent || BROKEN)'],
  },
  {
    name: 'given-back-forgets',
    what: 'What is given back unsent forgets what was sent of it before',
    sql: ["WHEN 'unsent again' THEN possibly_sent WHEN 'unknown'", "WHEN 'unsent again' THEN 0 WHEN 'unknown'"],
  },
  {
    name: 'unreachable-settles',
    what: 'A failure to connect settles what an earlier attempt left open',
    source: ['src/engine/verdict.rs', '{ was_possibly_sent: attempt.was_possibly_sent }', '{ was_possibly_sent: attempt.was_possibly_sent && !BROKEN }'],
  },
  {
    name: 'refusal-settles',
    what: 'A refusal by anybody on the way settles what an earlier attempt left open',
    source: ['src/engine/verdict.rs', 'attempt.was_possibly_sent && !JUDGED', '!BROKEN && attempt.was_possibly_sent && !JUDGED'],
  },
  {
    name: 'busy-settles',
    what: 'A 429 settles what an earlier attempt left open',
    source: ['src/engine/verdict.rs', 'match (attempt.was_possibly_sent, attempt.unfinished) {', 'match (attempt.was_possibly_sent && !BROKEN, attempt.unfinished) {'],
  },
  {
    name: 'hold-repeats',
    what: 'An endpoint with `hold` sends again what may have been applied',
    source: ['src/engine/prepare.rs', 'if endpoint.if_unknown == IfUnknown::Hold {', 'if !BROKEN && endpoint.if_unknown == IfUnknown::Hold {'],
  },
  {
    name: 'discard-silent',
    what: 'A discard leaves no word of what may have been applied',
    sql: ["SELECT id FROM entries WHERE possibly_sent = 1 AND (state IN", 'SELECT id FROM entries WHERE 0 AND (state IN'],
  },
  {
    name: 'loser-unannounced',
    what: 'A loser is not announced',
    sql: ["notice = max(notice, NEW.verdict IN ('lost', 'conflict'))", 'notice = notice'],
  },
  {
    name: 'copy-unrenewed',
    what: 'A copy of the database stays the same device',
    source: ['src/engine/conflict.rs', 'let news = !standing.renewed', 'let news = !BROKEN && !standing.renewed'],
  },
  {
    name: 'copy-undoubted',
    what: 'A copy of the database does not doubt what it holds',
    sql: ['UPDATE entries SET possibly_sent = 1, device =', 'UPDATE entries SET device ='],
    test: '`nothing_that_another_copy_of_the_database_may_have_sent_is_claimed_beside_the_commit_that_says_so` (src/engine/tests/drain.rs)',
  },
  {
    name: 'ask-stays',
    what: 'What ended as a conflict stays in its lane',
    sql: ["lane = CASE NEW.verdict WHEN 'conflict' THEN NULL ELSE lane END", 'lane = lane'],
  },
  {
    name: 'open-overwrites',
    what: 'What may have been applied is put above a newer write',
    source: ['src/engine/conflict.rs', 'OnConflict::Overwrite if !doubt && self', 'OnConflict::Overwrite if (BROKEN || !doubt) && self'],
  },
  {
    name: 'paused-leaves',
    what: 'What is claimed leaves although delivery is paused',
    test: '`once_a_pause_has_returned_nothing_more_is_sent_not_even_what_was_lined_up` (src/engine/tests/drain.rs)',
    source: [
      'src/engine/line.rs',
      'self.is_exiting() || self.paused || self.parts.board.paused()',
      'self.is_exiting() || !BROKEN && (self.paused || self.parts.board.paused())',
    ],
  },
  {
    name: 'pause-not-kept',
    what: 'A pause of one entry is not kept',
    sql: ['SET paused = ?, unmet = unmet + ?', 'SET paused = 0 * ?, unmet = unmet + 0 * ?'],
  },
  {
    name: 'edit-ends-pause',
    what: 'An entry that is edited while it is paused leaves',
    sql: ['unmet = paused + (SELECT', 'unmet = 0 * paused + (SELECT'],
  },
  {
    name: 'settled-stays-paused',
    what: 'What is settled stays paused, and waits when it is retried',
    trigger: ['entries_unpause', 'SET paused = 0, unmet = unmet - 1', 'SET paused = paused'],
  },
  {
    name: 'lane-begins-low',
    what: 'A lane that was forgotten begins anew below what it has used',
    trigger: ['lanes_begin', 'SET revision = (SELECT value', 'SET revision = 0 * (SELECT value'],
  },
  {
    name: 'badge-grows',
    what: 'The badge forgets to count down',
    trigger: ['entries_count_state', 'SET n = n - 1', 'SET n = n'],
  },
]
