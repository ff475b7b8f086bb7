import { call, milliseconds } from './invoke.js'
import { controllerOf, ENTRY_EVENT, Listeners, listenUntil, report, STATUS_EVENT, tell } from './listening.js'
import type { Change, Entry, JsonValue, ListenOptions, Query, Readable } from './types.js'

/** A state change and the status that follows from it arrive as two events: one look at the list serves both. Milliseconds. */
const GATHER = 20

/** A list of entries, newest first. */
export type EntryList = readonly Entry[] & {
  /** `false` only before the first answer of the backend, when the list is empty because nothing is known yet. */
  readonly ready: boolean
}

/**
 * Entries, newest first.
 *
 * @param query - Which ones; by default the newest 100 of every state.
 * @throws {@link StorageSyncError} `invalid_argument`, `not_found` (the entry of `after` was discarded or pruned meanwhile: start over),
 * `database*`, `closed`.
 */
export async function list(query: Query = {}): Promise<Entry[]> {
  return call('list', { query })
}

/**
 * One entry.
 *
 * @throws {@link StorageSyncError} `not_found`: it was discarded or pruned, or never existed in this account.
 */
export async function get(id: string): Promise<Entry> {
  return call('get', { id })
}

/**
 * What was given to `enqueue`: the JSON value, or the bytes as a `Uint8Array` (their media type is in {@link Entry.contentType}).
 * Needs a permission that is not in `storage-sync:default`.
 *
 * @throws {@link StorageSyncError} `not_found`, `wrong_state` (delivered or replaced: the payload was removed), `undecryptable`,
 * `keychain_locked`, `keychain_unavailable`, `key_missing`, `key_mismatch`.
 */
export async function payload<T = JsonValue>(id: string): Promise<T | Uint8Array> {
  const answer = await call<{ json: T } | ArrayBuffer | Uint8Array | number[]>('payload', { id })
  // Bytes arrive as an array of numbers where IPC has fallen back to messages.
  if (answer instanceof Uint8Array || Array.isArray(answer)) return content(Uint8Array.from(answer))
  if ('json' in answer) return answer.json
  return content(new Uint8Array(answer))
}

/** Four bytes with the length of a JSON header, the header, then the bytes themselves. */
function content(framed: Uint8Array): Uint8Array {
  const header = new DataView(framed.buffer, framed.byteOffset).getUint32(0)
  return framed.slice(4 + header)
}

/**
 * Resolves once the server has proved that it has the entry. Where a newer entry has replaced it, that one is followed.
 *
 * @param options - `timeout` in milliseconds. Default: no limit, which may be weeks.
 * @returns The acked entry.
 * @throws {@link StorageSyncError} `not_delivered` (it failed: the message says why), `lost` (a newer write on the server stands),
 * `not_found` (it was discarded), `timeout` (delivery goes on), `closed`, and
 * `invalid_argument` when this page waits for 10 000 already.
 */
export async function delivered(id: string, options: { timeout?: number | undefined } = {}): Promise<Entry> {
  return call('delivered', { id, timeoutMs: milliseconds(options.timeout) })
}

/**
 * Calls `run` at every state change of an entry. What `run` throws is reported on the console.
 *
 * @param options - `signal`: aborting ends it, also while this function is still being awaited.
 * @returns A function that ends it. It may be called more than once.
 * @throws {@link StorageSyncError} `ipc` where the window may not listen to events (`core:event:default`).
 */
export async function onEntry(run: (change: Change) => void, options: ListenOptions = {}): Promise<() => void> {
  const own = controllerOf(options)
  await listenUntil(ENTRY_EVENT, run, own.signal)
  return () => own.abort()
}

/**
 * A list that stays up to date while it has subscribers, in the shape of `syncStatus`. Before the first answer it is empty and not `ready`.
 *
 * Entries that did not change stay the same frozen objects. Each call makes a store of its own: in React keep it outside the component
 * or in `useMemo`.
 *
 * @param query - Which ones; by default the newest 100 of every state.
 *
 * @example
 * ```ts
 * const failed = syncEntries({ state: 'failed' })
 * const stop = failed.subscribe(entries => render(entries))
 * ```
 */
export function syncEntries(query: Query = {}): Readable<EntryList> {
  // A copy, because the caller may change its object; not structuredClone, which throws at a framework's proxies.
  const asked = JSON.parse(JSON.stringify(query)) as Query
  const listeners = new Listeners<EntryList>()
  let latest = entryList([], false)
  let stop: AbortController | undefined

  function take(found: Entry[]): void {
    const known = new Map(latest.map(entry => [entry.id, entry]))
    const entries = found.map(entry => reuse(known.get(entry.id), entry))
    if (latest.ready && entries.length === latest.length && entries.every((entry, at) => entry === latest[at])) return
    latest = entryList(entries, true)
    listeners.tell(latest)
  }

  return {
    subscribe(run) {
      const remove = listeners.add(run)
      if (!stop) {
        stop = new AbortController()
        follow(asked, take, stop.signal)
      }
      tell(run, latest)
      return () => {
        remove()
        if (listeners.size > 0) return
        stop?.abort()
        stop = undefined
      }
    },
    getSnapshot: () => latest,
  }
}

/** Calls `take` with the list now and after changes, until `signal` aborts. One request at a time. */
function follow(query: Query, take: (found: Entry[]) => void, signal: AbortSignal): void {
  let asking = false
  let stale = false
  let timer: ReturnType<typeof setTimeout> | undefined

  async function ask(): Promise<void> {
    timer = undefined
    asking = true
    stale = false
    try {
      const found = await list(query)
      if (!signal.aborted) take(found)
    } catch (thrown) {
      if (!signal.aborted) report('the list cannot be fetched', thrown)
    }
    asking = false
    if (stale) refresh()
  }

  function refresh(): void {
    stale = true
    if (!asking && !signal.aborted) timer ??= setTimeout(() => void ask(), GATHER)
  }

  signal.addEventListener('abort', () => clearTimeout(timer), { once: true })
  // Listening comes first, so that no change falls between. Without it the list is still shown once.
  Promise.all([ENTRY_EVENT, STATUS_EVENT].map(event => listenUntil(event, refresh, signal)))
    .catch(thrown => {
      if (!signal.aborted) report('the list cannot be followed', thrown)
    })
    .then(() => {
      if (signal.aborted) return
      clearTimeout(timer)
      if (asking) stale = true
      else void ask()
    })
}

/** The object that is known already, where nothing changed. */
function reuse(known: Entry | undefined, found: Entry): Entry {
  if (known && JSON.stringify(known) === JSON.stringify(found)) return known
  if (found.waitingFor) Object.freeze(found.waitingFor)
  return Object.freeze(found)
}

/** `ready` is not enumerable, so that the list is an array like any other. */
function entryList(entries: Entry[], ready: boolean): EntryList {
  return Object.freeze(Object.defineProperty(entries, 'ready', { value: ready })) as EntryList
}
