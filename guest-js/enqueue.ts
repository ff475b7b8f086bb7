import { refused } from './errors.js'
import { call } from './invoke.js'
import { tag, toJson } from './json.js'
import type { EnqueueOptions, Payload, Receipt } from './types.js'

const OCTETS = 'application/octet-stream'

/** The last call of each lane that is still under way. */
const lanes = new Map<string, Promise<unknown>>()

/**
 * Saves `payload` for delivery and resolves once it is on disk, encrypted. From then on it survives crashes, restarts and power cuts.
 *
 * The payload is copied at the call, so it may be changed afterwards. Calls for the same `kind` and `key` reach the disk in the order
 * in which they were made, awaited or not.
 *
 * A JSON payload is taken as `JSON.stringify` would take it (`toJSON` included, so a `Date` becomes text), except that what JSON would
 * silently drop or bend is refused: `undefined`, functions, symbols, `BigInt`, `NaN` and infinities, invalid dates, `Map`, `Set` and
 * other built-in objects, holes in arrays, references to itself, more than 100 levels. Bytes (`Uint8Array`, `ArrayBuffer`, `Blob`)
 * are stored as they are.
 *
 * @param kind - Names an endpoint of the app's configuration.
 * @param payload - What to deliver. By default at most 1 MiB.
 * @param options - Key, URL parameters, queue, id, media type.
 * @returns The receipt: it names the entry for ever.
 * @throws {@link StorageSyncError} `invalid_argument`, `unknown_kind`, `payload_too_large`, `quota_reached`, `id_conflict`, `disk_full`,
 * `keychain_locked`, `keychain_unavailable`, `key_missing`, `key_mismatch`, `database*`, `io`, `closed`. Nothing was written then.
 *
 * @example
 * ```ts
 * const receipt = await enqueue('form', draft, { key: '42' })
 * await enqueue('photo', file, { params: { listing: '42' } })
 * ```
 */
export async function enqueue(kind: string, payload: Payload, options: EnqueueOptions = {}): Promise<Receipt> {
  if (typeof toJson(kind, 'kind') !== 'string') throw refused("kind is the name of an endpoint, such as 'form'")
  const { contentType, ...rest } = options
  const given = known(rest)
  const bytes = asBytes(payload, contentType)
  if (!bytes) {
    if (contentType !== undefined) throw refused('options.contentType is for bytes: a JSON payload is application/json')
    const args = { kind, payload: toJson(payload, 'payload'), options: given }
    return inLane(kind, options.key, () => call<Receipt>('enqueue', args))
  }
  const headers = {
    'x-kind': encodeURIComponent(kind),
    'x-options': encodeURIComponent(JSON.stringify(given)),
    'x-content-type': bytes.contentType,
  }
  return inLane(kind, options.key, async () => call<Receipt>('enqueue', await bytes.read(), { headers }))
}

/** The options that were given a value, copied. */
function known(options: Omit<EnqueueOptions, 'contentType'>): Record<string, unknown> {
  const given = Object.entries(options).filter(([, value]) => value !== undefined)
  return toJson(Object.fromEntries(given), 'options') as Record<string, unknown>
}

/** Commands run side by side in the backend, so a call may overtake another: within a lane the next one waits. */
function inLane<T>(kind: string, key: string | undefined, send: () => Promise<T>): Promise<T> {
  // Without a key it is a lane of its own.
  if (key === undefined) return send()
  const lane = JSON.stringify([kind, key])
  const before = lanes.get(lane)
  const sent = before ? before.then(send, send) : send()
  lanes.set(lane, sent)
  const forget = () => {
    if (lanes.get(lane) === sent) lanes.delete(lane)
  }
  sent.then(forget, forget)
  return sent
}

interface Bytes {
  contentType: string
  read(): Promise<Uint8Array<ArrayBuffer>>
}

/** The payload as bytes, if that is what it is. */
function asBytes(payload: unknown, contentType: string | undefined): Bytes | undefined {
  if (typeof payload !== 'object' || payload === null) return undefined
  switch (tag(payload)) {
    case 'Uint8Array': {
      // A copy, because the caller may go on writing into its buffer.
      const copy = new Uint8Array(payload as Uint8Array)
      return { contentType: mediaType(contentType, ''), read: async () => copy }
    }
    case 'ArrayBuffer': {
      const copy = new Uint8Array((payload as ArrayBuffer).slice(0))
      return { contentType: mediaType(contentType, ''), read: async () => copy }
    }
    case 'Blob':
    case 'File': {
      const blob = payload as Blob
      return { contentType: mediaType(contentType, blob.type), read: () => readBlob(blob) }
    }
    default:
      return undefined
  }
}

async function readBlob(blob: Blob): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await blob.arrayBuffer())
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw refused(`payload cannot be read: ${why}`)
  }
}

function mediaType(given: string | undefined, own: string): string {
  const type = given ?? (own || OCTETS)
  // It travels in a header as it is.
  if (!/^[\x21-\x7e]+\/[\x20-\x7e]+$/.test(type)) {
    throw refused('options.contentType is a media type such as image/png, in ASCII')
  }
  return type
}
