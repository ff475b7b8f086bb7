/** The live table of what is in the outbox. */
import { discard, retry, syncEntries, type Entry, type EntryList } from 'tauri-plugin-storage-sync-api'

import { decide, isContested } from './conflict'
import { attempt, byId, confirmed, copyOf, part, write } from './dom'
import { clock, counts, sizeOf, STATE_WORDS, whatOf, whyOf } from './words'

/** What replaced drafts leave behind is of no interest here. */
export const queue = syncEntries({ state: ['pending', 'inflight', 'acked', 'failed'], limit: 50 })

const rows = new Map<string, HTMLTableRowElement>()
let countdown: ReturnType<typeof setInterval> | undefined

export function showQueue(): void {
  queue.subscribe(show)
}

function show(entries: EntryList): void {
  const table = byId<HTMLTableElement>('queue')
  table.hidden = entries.length === 0
  byId('queue-empty').hidden = !entries.ready || entries.length > 0
  const kept = new Set(entries.map(entry => entry.id))
  for (const [id, row] of rows) {
    if (!kept.has(id)) {
      rows.delete(id)
      row.remove()
    }
  }
  const body = table.tBodies[0]!
  entries.forEach((entry, at) => {
    const row = rows.get(entry.id) ?? added(entry)
    fill(row, entry)
    // Only what is out of place is moved, so that a button in use keeps the focus.
    if (body.children[at] !== row) body.insertBefore(row, body.children[at] ?? null)
  })
  tick(entries)
}

function added(entry: Entry): HTMLTableRowElement {
  const row = copyOf<HTMLTableRowElement>('queue-row')
  row.dataset['id'] = entry.id
  rows.set(entry.id, row)
  part(row, 'row-retry').addEventListener('click', () => void attempt(() => again(entry.id)))
  part(row, 'row-decide').addEventListener('click', () => void decide(entry.id))
  part(row, 'row-discard').addEventListener('click', () => void attempt(() => drop(entry.id)))
  return row
}

function fill(row: HTMLTableRowElement, entry: Entry): void {
  row.dataset['state'] = entry.state
  row.dataset['kind'] = entry.kind
  row.dataset['waiting'] = entry.waitingFor?.reason ?? ''
  const what = whatOf(entry)
  write(part(row, 'row-what'), what)
  write(part(row, 'row-when'), `${clock(entry.createdAt)} · ${sizeOf(entry.bytes)}`)
  write(part(row, 'row-state'), STATE_WORDS[entry.state])
  write(part(row, 'row-attempts'), String(entry.attempts))
  write(part(row, 'row-why'), whyOf(entry))
  write(part(row, 'row-error'), entry.state === 'acked' ? '' : (entry.lastError ?? ''))
  const contested = isContested(entry)
  offer(part(row, 'row-decide'), 'Decide about', what, contested)
  offer(part(row, 'row-retry'), 'Retry', what, (entry.state === 'failed' && !contested) || entry.waitingFor?.reason === 'backoff')
  offer(part(row, 'row-discard'), 'Discard', what, entry.state !== 'inflight')
}

/** A button says which entry it is for, since a screen reader may come to it without the row. */
function offer(button: HTMLElement, verb: string, what: string, offered: boolean): void {
  button.hidden = !offered
  button.setAttribute('aria-label', `${verb} ${what}`)
}

function entryOf(id: string): Entry | undefined {
  return queue.getSnapshot().find(entry => entry.id === id)
}

async function again(id: string): Promise<void> {
  const unknown = entryOf(id)?.reason === 'outcome-unknown'
  const force =
    unknown &&
    (await confirmed('Send it again?', 'The server may have it already, and would then have it twice.', 'Send again'))
  if (!unknown || force) await retry(id, { force })
}

async function drop(id: string): Promise<void> {
  const entry = entryOf(id)
  if (!entry) return
  const text =
    entry.state === 'acked'
      ? 'The server keeps it; only this line goes.'
      : entry.possiblySent
        ? 'It goes from this device. The server may have it already.'
        : 'It goes from this device, and the server never gets it.'
  if (await confirmed(`Discard ${whatOf(entry)}?`, text, 'Discard')) await discard(id)
}

/** Waiting times count down; when nothing counts, nothing runs. */
function tick(entries: EntryList): void {
  const counting = entries.some(entry => counts(entry.waitingFor))
  if (counting) {
    countdown ??= setInterval(() => show(queue.getSnapshot()), 1000)
  } else {
    clearInterval(countdown)
    countdown = undefined
  }
}
