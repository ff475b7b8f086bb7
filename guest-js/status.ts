import { call } from './invoke.js'
import { controllerOf, Listeners, listenUntil, report, STATUS_EVENT, tell } from './listening.js'
import type { ListenOptions, Readable, Status } from './types.js'

const NOT_READY: Status = freeze({
  ready: false,
  seq: 0,
  pending: 0,
  inflight: 0,
  acked: 0,
  failed: 0,
  paused: false,
  owner: false,
  account: '',
  key: { state: 'unused', source: '' },
  holds: [],
  watches: [],
})

/** From the first listener to the last: one subscription in the backend, whatever the number of listeners. */
interface Session {
  readonly stop: AbortController
  listening?: Promise<void> | undefined
  fetching?: Promise<void> | undefined
  /** Something changed after the question that is under way. */
  changed: boolean
  answered: boolean
}

let session: Session | undefined
let latest = NOT_READY
const listeners = new Listeners<Status>()

/**
 * How many entries are in each state, and what holds delivery up.
 *
 * @throws {@link StorageSyncError} `database*`, `io`, `closed`, `ipc`.
 */
export async function status(): Promise<Status> {
  return call('status')
}

/**
 * Calls `run` with the status at once, and again at every change. Older news never follows newer.
 *
 * Bursts are coalesced (about 20 calls a second at most); the last state always arrives. What `run` throws is reported on the console.
 *
 * @param run - Gets a frozen object, the same one for all listeners.
 * @param options - `signal`: aborting ends it, also while this function is still being awaited.
 * @returns A function that ends it. It may be called more than once.
 * @throws {@link StorageSyncError} what `status()` throws, and `ipc` where the window may not listen to events (`core:event:default`).
 */
export async function subscribe(run: (status: Status) => void, options: ListenOptions = {}): Promise<() => void> {
  const own = controllerOf(options)
  if (own.signal.aborted) return () => {}
  let called = false
  const hear = (value: Status) => {
    called = true
    run(value)
  }
  const leave = join(hear)
  own.signal.addEventListener('abort', leave, { once: true })
  try {
    await answer()
  } catch (thrown) {
    if (!own.signal.aborted) {
      own.abort()
      throw thrown
    }
  }
  if (!own.signal.aborted && !called) tell(hear, latest)
  return () => own.abort()
}

/**
 * The status as a value that can be read synchronously: for React, Svelte and the like. Before the first answer of the backend it is
 * `{ ready: false, … }` with zeros. It listens while it has subscribers, once for all of them.
 *
 * @example
 * ```tsx
 * const { pending } = useSyncExternalStore(syncStatus.subscribe, syncStatus.getSnapshot, syncStatus.getSnapshot)
 * ```
 * @example
 * ```svelte
 * {$syncStatus.pending} waiting
 * ```
 */
export const syncStatus: Readable<Status> = {
  subscribe(run) {
    const leave = join(run)
    const joined = session
    answer().catch(thrown => {
      if (joined === session) report('the status cannot be followed', thrown)
    })
    tell(run, latest)
    return leave
  },
  getSnapshot: () => latest,
}

/** Adds a listener; the first one opens the session and the last one to leave closes it. */
function join(run: (status: Status) => void): () => void {
  const remove = listeners.add(run)
  session ??= { stop: new AbortController(), changed: false, answered: false }
  return () => {
    remove()
    if (listeners.size > 0) return
    session?.stop.abort()
    session = undefined
  }
}

/** Listens first and asks second, so that no change falls between. Resolves once this session has heard from the backend. */
async function answer(): Promise<void> {
  const mine = session
  if (!mine) return
  mine.listening ??= listenUntil(STATUS_EVENT, () => follow(mine), mine.stop.signal).catch(thrown => {
    // Whoever comes next tries again.
    mine.listening = undefined
    throw thrown
  })
  await mine.listening
  if (mine.answered || mine.stop.signal.aborted) return
  await look(mine)
}

/** An event says that there is something new, and only the command says what: any window may hear events. */
function follow(mine: Session): void {
  if (mine.fetching) {
    mine.changed = true
    return
  }
  look(mine).catch(thrown => {
    if (!mine.stop.signal.aborted) report('the status cannot be followed', thrown)
  })
}

/** One question at a time. */
function look(mine: Session): Promise<void> {
  mine.fetching ??= status()
    .then(value => take(value, mine))
    .finally(() => {
      mine.fetching = undefined
      if (!mine.changed || mine.stop.signal.aborted) return
      mine.changed = false
      follow(mine)
    })
  return mine.fetching
}

function take(value: Status, from: Session): void {
  if (from.stop.signal.aborted) return
  from.answered = true
  if (value.seq < latest.seq || JSON.stringify(value) === JSON.stringify(latest)) return
  latest = freeze(value)
  listeners.tell(latest)
}

function freeze(value: Status): Status {
  Object.freeze(value.key)
  value.holds.forEach(hold => Object.freeze(Object.freeze(hold).waitingFor))
  Object.freeze(value.holds)
  value.watches.forEach(watch => Object.freeze(watch))
  Object.freeze(value.watches)
  return Object.freeze(value)
}
