import { asBytes } from './bytes.js'
import { get } from './entries.js'
import { call } from './invoke.js'
import { toJson } from './json.js'
import { controllerOf, ENTRY_EVENT, listenUntil, report, STATUS_EVENT } from './listening.js'
import type { Change, Entry, Known, ListenOptions, Payload } from './types.js'

/** How often a change of the status alone is reason to look for conflicts: those of another process are not announced here. Milliseconds. */
const LOOK = 1000

/**
 * Tells what the app has read of a thing on the server, so that the next write of it builds on that. Entries that are queued already
 * stay as they are.
 *
 * @param kind - Names an endpoint of the app's configuration.
 * @param key - Names the thing, as in `enqueue`.
 * @param known - What was read; what is left out stays as it is known.
 * @throws {@link StorageSyncError} `unknown_kind`, `invalid_argument`, `database*`, `disk_full`, `closed`.
 *
 * @example
 * ```ts
 * const listing = await fetchListing('42')
 * await observe('form', '42', { revision: listing.revision, exists: true })
 * ```
 */
export async function observe(kind: string, key: string, known: Known): Promise<void> {
  const given = Object.entries(known).filter(([, value]) => value !== undefined)
  await call('observe', { kind, key, known: toJson(Object.fromEntries(given), 'known') })
}

/**
 * Gives an entry another payload and queues it, where it stood, whether it was waiting, refused or `lost`. Key, params and id stay.
 * Needs a permission that is not in `storage-sync:default`.
 *
 * @param id - An entry that the server has not applied: one that waits and was never sent, that failed with a definitive answer, or that
 * is `lost`.
 * @param payload - What to deliver instead, as in `enqueue`.
 * @param options - `contentType`: media type, for bytes only.
 * @throws {@link StorageSyncError} `not_found`, `wrong_state` (the message says why), `unknown_kind`, `invalid_argument`,
 * `payload_too_large`, `undecryptable`, and why there is no key.
 */
export async function edit(id: string, payload: Payload, options: { contentType?: string | undefined } = {}): Promise<void> {
  await change('edit', id, payload, options.contentType)
}

/**
 * Decides for an entry that met a newer write on the server: one that failed with `conflict`, or that is `lost`. Needs a permission that
 * is not in `storage-sync:default`.
 *
 * @param id - The entry.
 * @param choice - `'mine'`: it is sent above what the server holds. `'theirs'`: what the server holds stands, and the payload is removed.
 * Anything else is a payload that is sent in its place, such as one that merges both; a payload that is the very text `'mine'` or
 * `'theirs'` goes through `edit`.
 * @param options - `contentType`: media type, for bytes only.
 * @throws {@link StorageSyncError} as `edit`.
 */
export async function resolve(
  id: string,
  choice: 'mine' | 'theirs' | Payload,
  options: { contentType?: string | undefined } = {},
): Promise<void> {
  if (choice === 'mine' || choice === 'theirs') await call('resolve', { id, choice })
  else await change('resolve', id, choice, options.contentType)
}

/** Both verbs take a payload for an entry that is there. */
async function change(command: string, id: string, payload: Payload, contentType: string | undefined): Promise<void> {
  const bytes = asBytes(payload, contentType)
  if (!bytes) return call(command, { id, payload: toJson(payload, 'payload') })
  await call(command, await bytes.read(), { headers: { 'x-id': encodeURIComponent(id), 'x-content-type': bytes.contentType } })
}

/**
 * The entries that met a newer write on the server and that nobody has read of yet, oldest first, at most 1000.
 *
 * @throws {@link StorageSyncError} `database*`, `closed`.
 */
export async function conflicts(): Promise<Entry[]> {
  return call('conflicts')
}

/**
 * Takes these out of {@link conflicts}: somebody has read of them. Ids of other entries are ignored.
 *
 * @throws {@link StorageSyncError} `invalid_argument` for more than 1000 ids; `database*`, `disk_full`, `closed`.
 */
export async function conflictsRead(ids: readonly string[]): Promise<void> {
  await call('conflicts_read', { ids })
}

/**
 * Calls `handle` with each entry that meets a newer write on the server, also with those that did so while nobody listened: it listens
 * first, then asks for the unread ones. One at a time, oldest first; an entry counts as read once what `handle` answered has resolved.
 *
 * Where `handle` throws or rejects, that is reported on the console and the entry stays unread: `handle` gets it again at the next start,
 * or when it meets another conflict. Windows that listen at the same time each get it.
 *
 * @param handle - May ask the user and call `resolve`, `edit` or `discard`. With `onConflict: "newest"` the entry is `lost`; with `"ask"`
 * it has failed with `conflict`.
 * @param options - `signal`: aborting ends it, also while this function is still being awaited.
 * @returns A function that ends it. It may be called more than once.
 * @throws {@link StorageSyncError} what {@link conflicts} throws, and `ipc` where the window may not listen to events (`core:event:default`).
 *
 * @example
 * ```ts
 * await onConflict(async entry => {
 *   if (entry.lost) toast(`${entry.key} was changed elsewhere`)
 *   else await resolve(entry.id, (await ask(entry)) ? 'mine' : 'theirs')
 * })
 * ```
 */
export async function onConflict(
  handle: (entry: Entry) => void | Promise<void>,
  options: ListenOptions = {},
): Promise<() => void> {
  const own = controllerOf(options)
  const { signal } = own
  const reader = new Reader(handle, signal)
  try {
    await listenUntil<Change>(ENTRY_EVENT, change => change.conflict && reader.look(0), signal)
    await listenUntil(STATUS_EVENT, () => reader.look(LOOK), signal)
    if (!signal.aborted) await reader.start()
  } catch (thrown) {
    own.abort()
    throw thrown
  }
  return () => own.abort()
}

/** Hands over unread conflicts, one after another. */
class Reader {
  readonly #handle: (entry: Entry) => void | Promise<void>
  readonly #signal: AbortSignal
  /** What was handed over, by id, with the number of attempts it had then: another conflict takes another attempt. */
  readonly #done = new Map<string, number>()
  #started = false
  #working = false
  #again = false
  #due: { at: number; timer: ReturnType<typeof setTimeout> } | undefined

  constructor(handle: (entry: Entry) => void | Promise<void>, signal: AbortSignal) {
    this.#handle = handle
    this.#signal = signal
    signal.addEventListener('abort', () => clearTimeout(this.#due?.timer), { once: true })
  }

  /** Throws where the conflicts cannot be read; does not wait for their handling. */
  async start(): Promise<void> {
    this.#working = true
    const found = await conflicts()
    this.#started = true
    void this.#work(found)
  }

  /** Looks for conflicts in so many milliseconds, or sooner. */
  look(within: number): void {
    const at = Date.now() + within
    if (this.#signal.aborted || (this.#due && this.#due.at <= at)) return
    clearTimeout(this.#due?.timer)
    this.#due = { at, timer: setTimeout(() => this.#now(), within) }
  }

  #now(): void {
    this.#due = undefined
    if (this.#working) this.#again = true
    else if (this.#started) void this.#work()
  }

  async #work(found?: Entry[]): Promise<void> {
    this.#working = true
    try {
      let next = found ?? (await conflicts())
      while (!this.#signal.aborted) {
        this.#again = false
        const fresh = next.filter(entry => this.#done.get(entry.id) !== entry.attempts)
        for (const entry of fresh) await this.#hand(entry)
        // A full page may hide others, and what came meanwhile is not on it.
        if (fresh.length === 0 && !this.#again) break
        next = await conflicts()
      }
    } catch (thrown) {
      if (!this.#signal.aborted) report('the conflicts cannot be read', thrown)
    }
    this.#working = false
    if (this.#again) this.look(0)
  }

  async #hand(entry: Entry): Promise<void> {
    if (this.#signal.aborted) return
    this.#done.set(entry.id, entry.attempts)
    try {
      await this.#handle(entry)
      // It may be gone, or have met another conflict, which is not read yet.
      const now = await get(entry.id).catch(() => undefined)
      if (now?.conflict && now.attempts === entry.attempts) await conflictsRead([entry.id])
    } catch (thrown) {
      report(`the conflict of entry ${entry.id} was not handled`, thrown)
    }
  }
}
