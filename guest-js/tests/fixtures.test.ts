/**
 * The fixtures are what crosses IPC. `tests/fixtures.rs` reads the same files with the Rust types; here each must have exactly the
 * fields of the TypeScript type, and together they must show every name that a type can hold.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { describe, expect, test } from 'vitest'

import { ERROR_CODES, type ErrorCode } from '../errors.js'
import { ACTIONS, AFTER_ACKS, APPLIED, KEY_STATES, LEFTOVERS, QUEUES, REASONS, STATES, WATCH_STATES } from '../types.js'
import type {
  AuthRequired,
  Change,
  Discarded,
  EnqueueOptions,
  Entry,
  FileInfo,
  FileOptions,
  Filter,
  Flushed,
  Hold,
  KeyStatus,
  Known,
  Leftover,
  Payload,
  Query,
  Receipt,
  Reset,
  SignedOut,
  Status,
  UploadProgress,
  WaitingFor,
  Watch,
  WatchOptions,
  WatchStatus,
} from '../types.js'

type Check<T> = (value: unknown) => value is T
/** One check for each field of a type: the compiler refuses one too few, one too many, and one of the wrong type. */
type Shape<T> = { [Name in keyof Required<T>]: Check<Exclude<T[Name], undefined>> }

const text: Check<string> = value => typeof value === 'string'
const flag: Check<boolean> = value => typeof value === 'boolean'
const count: Check<number> = (value): value is number => Number.isSafeInteger(value) && (value as number) >= 0
const uuid: Check<string> = (value): value is string => text(value) && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value)
const json: Check<Payload> = (value): value is Payload => value !== undefined

function oneOf<const T extends string | boolean>(names: readonly T[]): Check<T> {
  return (value): value is T => names.includes(value as T)
}
function orNull<T>(check: Check<T>): Check<T | null> {
  return (value): value is T | null => value === null || check(value)
}
function either<A, B>(a: Check<A>, b: Check<B>): Check<A | B> {
  return (value): value is A | B => a(value) || b(value)
}
function listOf<T>(check: Check<T>): Check<T[]> {
  return (value): value is T[] => Array.isArray(value) && value.every(check)
}
function mapOf<T>(check: Check<T>): Check<Record<string, T>> {
  return (value): value is Record<string, T> => isObject(value) && Object.values(value).every(check)
}
function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
/** An object with these fields and no others; `optional` ones may be absent. */
function object<T>(shape: Shape<T>, optional: (keyof T)[] = []): Check<T> {
  return (value): value is T =>
    isObject(value) &&
    Object.keys(value).every(name => name in shape) &&
    Object.entries<Check<unknown>>(shape).every(([name, check]) => {
      const absent = !(name in value) && optional.includes(name as keyof T)
      return absent || check(value[name])
    })
}

const state = oneOf(STATES)
const states = either(state, listOf(state))
const keyState = oneOf(KEY_STATES)

type Fields<Name extends WaitingFor['reason']> = Omit<Extract<WaitingFor, { reason: Name }>, 'reason'>
const waits: { [Name in WaitingFor['reason']]: Shape<Fields<Name>> } = {
  backoff: { until: count },
  offline: { origin: text },
  busy: { until: count },
  lane: { behind: uuid },
  dependency: { on: uuid },
  auth: { origin: text },
  unproven: {},
  refusing: {},
  keychain: { key: keyState },
  paused: {},
  endpoint: {},
  turn: {},
}
const waitingFor: Check<WaitingFor> = (value): value is WaitingFor => {
  if (!isObject(value)) return false
  const { reason, ...rest } = value
  const shape = waits[reason as WaitingFor['reason']] as Shape<Record<string, unknown>> | undefined
  return shape !== undefined && object(shape)(rest)
}

const entry = object<Entry>({
  id: uuid,
  kind: text,
  key: orNull(text),
  state,
  reason: orNull(oneOf(REASONS)),
  waitingFor: orNull(waitingFor),
  paused: flag,
  queue: oneOf(QUEUES),
  action: orNull(oneOf(ACTIONS)),
  after: listOf(uuid),
  attempts: count,
  possiblySent: flag,
  applied: oneOf(APPLIED),
  status: orNull(count),
  lastError: orNull(text),
  revision: orNull(count),
  canonicalId: orNull(text),
  supersededBy: orNull(uuid),
  lost: flag,
  conflict: flag,
  contentType: text,
  bytes: count,
  file: flag,
  uploaded: count,
  createdAt: count,
  updatedAt: count,
})
const status = object<Status>({
  ready: flag,
  seq: count,
  pending: count,
  inflight: count,
  acked: count,
  failed: count,
  paused: flag,
  owner: flag,
  account: text,
  key: object<KeyStatus>({ state: keyState, source: text }),
  holds: listOf(object<Hold>({ kind: orNull(text), origin: text, waitingFor, asked: count }, ['asked'])),
  watches: listOf(object<WatchStatus>({ id: uuid, kind: text, state: oneOf(WATCH_STATES) })),
})
const options = object<EnqueueOptions>(
  {
    key: text,
    params: mapOf(either(either(text, flag), count)),
    queue: oneOf(QUEUES),
    id: uuid,
    action: oneOf(ACTIONS),
    after: listOf(uuid),
    contentType: text,
  },
  ['key', 'params', 'queue', 'id', 'action', 'after', 'contentType'],
)
/** A member of a batch, with its payload or with the place of its bytes. */
const jsonItem = object<{ kind: string; payload: Payload; options: EnqueueOptions }>({ kind: text, payload: json, options })
const bytesItem = object<{ kind: string; contentType: string; bytes: number; options: EnqueueOptions }>({
  kind: text,
  contentType: text,
  bytes: count,
  options,
})
type SentWithFile = Omit<FileOptions, 'signal' | 'onProgress'>
const fileOptions = object<SentWithFile>(
  {
    key: text,
    params: mapOf(either(either(text, flag), count)),
    queue: oneOf(QUEUES),
    id: uuid,
    action: oneOf(ACTIONS),
    after: listOf(uuid),
    name: text,
    contentType: text,
    metadata: mapOf(either(either(text, flag), count)),
  },
  ['key', 'params', 'queue', 'id', 'action', 'after', 'name', 'contentType', 'metadata'],
)
const watchOptions = object<WatchOptions>(
  {
    kind: text,
    recursive: flag,
    patterns: listOf(text),
    afterAck: oneOf(AFTER_ACKS),
    moveTo: text,
    params: mapOf(either(either(text, flag), count)),
    contentType: text,
  },
  ['recursive', 'patterns', 'afterAck', 'moveTo', 'params', 'contentType'],
)
const filter = object<Filter>({ state: states, kind: text, key: text, ids: listOf(uuid) }, ['state', 'kind', 'key', 'ids'])

const checks: Record<string, Check<unknown>> = {
  change: object<Change>({ id: uuid, kind: text, state: orNull(state), seq: count, conflict: oneOf([true]) }, ['conflict']),
  discarded: object<Discarded>({
    ids: listOf(uuid),
    possiblyApplied: listOf(uuid),
    inflight: listOf(uuid),
    orphaned: listOf(uuid),
  }),
  edit: object<{ id: string; payload: Payload }>({ id: uuid, payload: json }),
  enqueue: object<{ kind: string; payload: Payload; options?: EnqueueOptions }>({ kind: text, payload: json, options }, ['options']),
  enqueue_all: object<{ entries: unknown[] }>({ entries: listOf(either(jsonItem, bytesItem)) }),
  enqueue_file: either(
    either(
      object<{ kind: string; path: string; options?: SentWithFile }>({ kind: text, path: text, options: fileOptions }, ['options']),
      object<{ kind: string; bytes: number; options: SentWithFile }>({ kind: text, bytes: count, options: fileOptions }),
    ),
    object<{ transfer: string; finish?: true; abort?: true }>(
      { transfer: uuid, finish: oneOf([true]), abort: oneOf([true]) },
      ['finish', 'abort'],
    ),
  ),
  entry,
  error: object<{ code: ErrorCode; message: string }>({ code: oneOf(ERROR_CODES), message: text }),
  file: object<FileInfo>({ name: orNull(text), contentType: text, bytes: count, sha256: text, metadata: mapOf(text) }),
  flushed: object<Flushed>({ acked: count, failed: count, waiting: count }),
  known: object<Known>(
    { revision: count, canonicalId: text, exists: flag, etag: text },
    ['revision', 'canonicalId', 'exists', 'etag'],
  ),
  progress: object<UploadProgress>({ id: uuid, sent: count, total: count, rate: count, left: orNull(count) }),
  query: object<Query>(
    { state: states, kind: text, key: text, after: uuid, limit: count },
    ['state', 'kind', 'key', 'after', 'limit'],
  ),
  receipt: object<Receipt>({ id: uuid, kind: text, key: orNull(text) }),
  resolve: either(
    object<{ id: string; choice: 'mine' | 'theirs' }>({ id: uuid, choice: oneOf(['mine', 'theirs']) }),
    object<{ id: string; payload: Payload }>({ id: uuid, payload: json }),
  ),
  selection: either(either(uuid, oneOf(['all'])), filter),
  auth: object<AuthRequired>({ origin: text }),
  reset: object<Reset>({ file: text, givenUp: count }),
  sign_out: object<{ pending?: Leftover; timeoutMs?: number }>({ pending: oneOf(LEFTOVERS), timeoutMs: count }, ['pending', 'timeoutMs']),
  signed_out: object<SignedOut>({
    account: text,
    delivered: count,
    kept: count,
    discarded: count,
    possiblyApplied: listOf(uuid),
    finished: flag,
  }),
  status,
  watch: object<Watch>({
    id: uuid,
    dir: text,
    kind: text,
    recursive: flag,
    patterns: listOf(text),
    afterAck: oneOf(AFTER_ACKS),
    moveTo: orNull(text),
    state: oneOf(WATCH_STATES),
    why: orNull(text),
    files: count,
    delivered: count,
  }),
  watch_options: object<{ dir: string; options: WatchOptions }>({ dir: text, options: watchOptions }),
}

const folder = join(import.meta.dirname, '../../tests/fixtures')
const names = readdirSync(folder).map(file => basename(file, '.json'))

function read<T>(name: string): T[] {
  return JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as T[]
}

test('every file has its check and every check its file', () => {
  expect(names.toSorted()).toEqual(Object.keys(checks).toSorted())
})

describe.each(names)('%s', name => {
  test.each(read<unknown>(name).map(value => [value]))('%j has the fields of its type', value => {
    expect(checks[name]?.(value)).toBe(true)
  })
})

test('the checks refuse what is missing, what is too much and what is of another type', () => {
  const [good] = read<Entry>('entry')
  const { bytes: _, ...short } = good as Entry
  for (const bad of [short, { ...good, more: 1 }, { ...good, attempts: '1' }, { ...good, waitingFor: { reason: 'lane' } }, null]) {
    expect(entry(bad)).toBe(false)
  }
})

describe('together the fixtures show every', () => {
  const entries = read<Entry>('entry')
  const waiting = entries.flatMap(one => one.waitingFor ?? [])

  test.each<[string, unknown[], readonly unknown[]]>([
    ['state', entries.map(one => one.state), STATES],
    ['reason', entries.flatMap(one => one.reason ?? []), REASONS],
    ['queue', entries.map(one => one.queue), QUEUES],
    ['action', entries.map(one => one.action), [...ACTIONS, null]],
    ['applied', entries.map(one => one.applied), APPLIED],
    ['lost', entries.map(one => one.lost), [true, false]],
    ['conflict', entries.map(one => one.conflict), [true, false]],
    ['cause of waiting', waiting.map(one => one.reason), Object.keys(waits)],
    ['key state of a waiting entry', waiting.flatMap(one => (one.reason === 'keychain' ? one.key : [])), KEY_STATES],
    ['key state', read<Status>('status').map(one => one.key.state), KEY_STATES],
    ['state of a watch', read<Watch>('watch').map(one => one.state), WATCH_STATES],
    ['state of a watch in the status', read<Status>('status').flatMap(one => one.watches.map(watch => watch.state)), WATCH_STATES],
    ['fate of a file', read<Watch>('watch').map(one => one.afterAck), AFTER_ACKS],
    ['fate that is asked for', read<{ options: WatchOptions }>('watch_options').flatMap(one => one.options.afterAck ?? []), AFTER_ACKS],
    ['state of a change', read<Change>('change').map(one => one.state), [...STATES, null]],
    ['choice at a sign-out', read<{ pending?: Leftover }>('sign_out').flatMap(one => one.pending ?? []), LEFTOVERS],
    // The last one is the binding's own: it says that the backend was not reached.
    ['error code of the backend', read<{ code: ErrorCode }>('error').map(one => one.code), ERROR_CODES.filter(code => code !== 'ipc')],
  ])('%s', (_, shown, all) => {
    expect(new Set(shown)).toEqual(new Set(all))
  })
})
