import { emit } from '@tauri-apps/api/event'
import { clearMocks, mockIPC } from '@tauri-apps/api/mocks'

import type { Change, Entry, Status } from '../types.js'

type Answer = (args: Record<string, unknown>, headers: Record<string, string>) => unknown

/** One call as the backend would see it. */
export interface Call {
  command: string
  args: Record<string, unknown> | Uint8Array
  headers: Record<string, string>
}

/** Stands where the Rust side stands: behind Tauri's IPC. A test says what each command answers and reads what was called. */
export class Backend {
  readonly calls: Call[] = []
  /** Events that are listened to at this moment, one item per listener. */
  readonly heard: string[] = []
  readonly #answers = new Map<string, Answer>()
  #events = new Map<number, string>()

  constructor() {
    mockIPC(() => {}, { shouldMockEvents: true })
    const internals = (window as unknown as { __TAURI_INTERNALS__: Internals }).__TAURI_INTERNALS__
    const events = internals.invoke
    // mockIPC hides the headers from its callback, and counts no listeners.
    internals.invoke = async (command, args, options) => {
      if (command.startsWith('plugin:event|')) return this.#event(command, args, events)
      const name = command.replace(/^plugin:storage-sync\|/, '')
      const headers = { ...(options?.headers ?? {}) }
      this.calls.push({ command: name, args: args as Call['args'], headers })
      const answer = this.#answers.get(command) ?? this.#answers.get(name)
      if (!answer) throw `Command ${name} not found`
      return structuredClone(await answer(args as Record<string, unknown>, headers))
    }
  }

  /** What a command answers: a value, or a function of the arguments (which may throw or wait). */
  on(command: string, answer: unknown): this {
    this.#answers.set(command, typeof answer === 'function' ? (answer as Answer) : () => answer)
    return this
  }

  count(command: string): number {
    return this.calls.filter(call => call.command === command).length
  }

  last(command: string): Call {
    const call = this.calls.findLast(call => call.command === command)
    if (!call) throw new Error(`${command} was not called`)
    return call
  }

  async changed(change: Partial<Change>): Promise<void> {
    await emit('storage-sync://entry', { id: 'x', kind: 'form', state: 'acked', seq: 1, ...change })
  }

  /** The status is this from now on, and an event says that it is another one. Resolves once it has been asked for. */
  async announces(value: Status): Promise<void> {
    this.on('status', value)
    await this.changes(value)
    await settled()
  }

  async changes({ seq, pending, inflight, acked, failed }: Status): Promise<void> {
    await emit('storage-sync://status', { seq, pending, inflight, acked, failed })
  }

  close(): void {
    clearMocks()
  }

  async #event(command: string, args: unknown, events: Internals['invoke']): Promise<unknown> {
    const before = this.#answers.get(command)
    if (before) await before(args as Record<string, unknown>, {})
    const answer = await events(command, args)
    const { event, eventId } = args as { event: string; eventId?: number }
    if (command.endsWith('|listen')) {
      this.heard.push(event)
      this.#events.set(answer as number, event)
    }
    if (command.endsWith('|unlisten') && this.#events.delete(eventId ?? NaN)) {
      this.heard.splice(this.heard.indexOf(event), 1)
    }
    return answer
  }
}

/** Of the page itself: a test may replace its timers. */
const { setTimeout: later } = globalThis

/** Everything that was put off until now has run, IPC answers included. */
export const settled = () => new Promise(resolve => later(resolve))

interface Internals {
  invoke(command: string, args?: unknown, options?: { headers?: Record<string, string> }): Promise<unknown>
}

/** A promise that the test settles. */
export function gate<T = void>(): { promise: Promise<T>; open: (value: T) => void; fail: (error: unknown) => void } {
  let open!: (value: T) => void
  let fail!: (error: unknown) => void
  const promise = new Promise<T>((resolve, reject) => ([open, fail] = [resolve, reject]))
  return { promise, open, fail }
}

export function statusOf(given: Partial<Status> = {}): Status {
  return {
    ready: true,
    seq: 1,
    pending: 0,
    inflight: 0,
    acked: 0,
    failed: 0,
    paused: false,
    owner: true,
    account: '',
    key: { state: 'ready', source: 'keychain' },
    holds: [],
    watches: [],
    ...given,
  }
}

export function entryOf(given: Partial<Entry> = {}): Entry {
  return {
    id: '0193f6a0-0000-7000-8000-000000000001',
    kind: 'form',
    key: 'listing/42',
    state: 'pending',
    reason: null,
    waitingFor: { reason: 'turn' },
    paused: false,
    queue: 'latest',
    action: null,
    after: [],
    attempts: 0,
    possiblySent: false,
    applied: 'no',
    status: null,
    lastError: null,
    revision: null,
    canonicalId: null,
    supersededBy: null,
    lost: false,
    conflict: false,
    contentType: 'application/json',
    bytes: 2,
    file: false,
    uploaded: 0,
    createdAt: 1,
    updatedAt: 1,
    ...given,
  }
}
