import { listen } from '@tauri-apps/api/event'

import { StorageSyncError, toError } from './errors.js'
import type { ListenOptions } from './types.js'

/** Carries the counts: `status()` says the rest. */
export const STATUS_EVENT = 'storage-sync://status'

/** Carries a `Change`. */
export const ENTRY_EVENT = 'storage-sync://entry'

/** Carries nothing: `status()` says which server asks. */
export const AUTH_EVENT = 'storage-sync://auth'

/** What wants to be told of each new value. What one of them throws does not reach the others. */
export class Listeners<T> {
  readonly #runs = new Set<{ run: (value: T) => void }>()

  get size(): number {
    return this.#runs.size
  }

  /** Returns what takes it out again. The same function may be added several times. */
  add(run: (value: T) => void): () => void {
    // Wrapped, since a set would take the same function only once.
    const member = { run }
    this.#runs.add(member)
    return () => this.#runs.delete(member)
  }

  tell(value: T): void {
    for (const member of [...this.#runs]) {
      // One of those before it may have taken it out.
      if (this.#runs.has(member)) tell(member.run, value)
    }
  }
}

/** Calls a function of the app; what it throws is reported and goes no further. */
export function tell<T>(run: (value: T) => void, value: T): void {
  try {
    run(value)
  } catch (thrown) {
    report('a listener threw', thrown)
  }
}

/** For what has no caller left to throw to. */
export function report(what: string, thrown: unknown): void {
  console.error(`storage-sync: ${what}:`, thrown)
}

/** Listens to an event of the plugin until `signal` aborts, also if it does so before the backend has answered. */
export async function listenUntil<T>(event: string, run: (value: T) => void, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const unlisten = await listen<T>(event, ({ payload }) => {
    if (!signal.aborted) tell(run, payload)
  }).catch(thrown => {
    throw new StorageSyncError(
      'ipc',
      `cannot listen to ${event}: add "core:event:default" to the window's capability (${toError(thrown).message})`,
      { cause: thrown },
    )
  })
  // It answers a promise although its type says void; a page on its way out may reject it.
  const end = () => Promise.resolve(unlisten()).catch(() => {})
  if (signal.aborted) void end()
  else signal.addEventListener('abort', () => void end(), { once: true })
}

/** A controller that also aborts when the app's own signal does. */
export function controllerOf({ signal }: ListenOptions): AbortController {
  const own = new AbortController()
  if (signal?.aborted) own.abort()
  else signal?.addEventListener('abort', () => own.abort(), { once: true, signal: own.signal })
  return own
}
