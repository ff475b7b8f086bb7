import { asBytes } from './bytes.js'
import { refused } from './errors.js'
import { idOf } from './ids.js'
import { call } from './invoke.js'
import { toJson } from './json.js'
import { inLanes, laneOf } from './lanes.js'
import type { EnqueueOptions, JsonValue, Named, NewItem, Payload, Receipt } from './types.js'

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
 * @param payload - What to deliver; `null` to delete. By default at most 1 MiB.
 * @param options - Key, URL parameters, queue, action, what comes before, id, media type.
 * @returns The receipt: it names the entry for ever.
 * @throws {@link StorageSyncError} `invalid_argument`, `unknown_kind`, `payload_too_large`, `quota_reached`, `id_conflict`, `disk_full`,
 * `keychain_locked`, `keychain_unavailable`, `key_missing`, `key_mismatch`, `database*`, `io`, `closed`. Nothing was written then.
 *
 * @example
 * ```ts
 * const receipt = await enqueue('form', draft, { key: '42' })
 * await enqueue('photo', file, { params: { listing: '42' } })
 * await enqueue('form', null, { key: '42', action: 'delete' })
 * ```
 */
export async function enqueue(kind: string, payload: Payload, options: EnqueueOptions = {}): Promise<Receipt> {
  if (typeof toJson(kind, 'kind') !== 'string') throw refused("kind is the name of an endpoint, such as 'form'")
  const { contentType, ...rest } = options
  const said = given(rest, 'options')
  const bytes = asBytes(payload, contentType)
  const lane = laneOf(kind, options.key)
  if (!bytes) {
    const args = { kind, payload: toJson(payload, 'payload'), options: said }
    return inLanes([lane], () => call<Receipt>('enqueue', args))
  }
  const headers = {
    'x-kind': encodeURIComponent(kind),
    'x-options': encodeURIComponent(JSON.stringify(said)),
    'x-content-type': bytes.contentType,
  }
  return inLanes([lane], async () => call<Receipt>('enqueue', await bytes.read(), { headers }))
}

/**
 * Saves several entries at once: all of them or, where one is refused, none. They are in the queue in this order.
 *
 * An entry may refer to one before it in the same call (`ref`, `after`) by an `id` that you choose with `newId()`. It is otherwise as
 * `enqueue` for each; what is limited per call is that there may be 1000 entries.
 *
 * @param items - What `enqueue` takes, each as one object.
 * @returns Their receipts, in the same order.
 * @throws {@link StorageSyncError} as `enqueue`; `invalid_argument` names the entry by its place, such as `entries[1]`.
 *
 * @example
 * ```ts
 * const listing = { id: newId(), kind: 'listing', payload: draft, key: 'draft/7' }
 * const photos = files.map(file => ({ kind: 'photo', payload: file, params: { listing: ref(listing) } }))
 * await enqueueAll([listing, ...photos])
 * ```
 */
export async function enqueueAll(items: readonly NewItem[]): Promise<Receipt[]> {
  if (!Array.isArray(items)) throw refused("entries is a list such as [{ kind: 'form', payload: draft, key: '42' }]")
  const members = items.map((item: NewItem, at) => member(item, `entries[${at}]`))
  const lanes = items.map((item: NewItem) => laneOf(item.kind, item.key))
  return inLanes(lanes, async () => call<Receipt[]>('enqueue_all', await body(members)))
}

/** One entry of a batch; `bytes` is what is not JSON of it. */
interface Member {
  entry: Record<string, JsonValue>
  bytes?: () => Promise<Uint8Array<ArrayBuffer>>
}

function member(item: NewItem, path: string): Member {
  if (typeof item !== 'object' || item === null) throw refused(`${path} is an object such as { kind: 'form', payload: draft }`)
  const { kind, payload, contentType, ...rest } = item
  if (typeof toJson(kind, `${path}.kind`) !== 'string') throw refused(`${path}.kind is the name of an endpoint, such as 'form'`)
  const options = given(rest, path)
  const bytes = asBytes(payload, contentType)
  if (!bytes) return { entry: { kind, payload: toJson(payload, `${path}.payload`), options } }
  return { entry: { kind, contentType: bytes.contentType, options }, bytes: bytes.read }
}

/** An object of arguments; with bytes among them they follow it as they are: its length (4 bytes, big endian), itself, the bytes. */
async function body(members: Member[]): Promise<{ entries: JsonValue[] } | Uint8Array<ArrayBuffer>> {
  if (!members.some(({ bytes }) => bytes)) return { entries: members.map(({ entry }) => entry) }
  const bytes = await Promise.all(members.map(async ({ bytes }) => bytes?.()))
  const entries = members.map(({ entry }, at) => ({ ...entry, ...(bytes[at] && { bytes: bytes[at].byteLength }) }))
  const header = new TextEncoder().encode(JSON.stringify({ entries }))
  const parts = [header, ...bytes.filter(part => part !== undefined)]
  const framed = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 4))
  new DataView(framed.buffer).setUint32(0, header.byteLength)
  let at = 4
  for (const part of parts) {
    framed.set(part, at)
    at += part.byteLength
  }
  return framed
}

/** The options that were given a value, copied. */
export function given<T extends { after?: readonly Named[] | undefined }>({ after, ...options }: T, path: string): Record<string, JsonValue> {
  const known: [string, unknown][] = Object.entries(options).filter(([, value]) => value !== undefined)
  if (after !== undefined) {
    if (!Array.isArray(after)) throw refused(`${path}.after is a list of receipts, or of their ids`)
    known.push(['after', after.map((entry, at) => idOf(entry, `${path}.after[${at}]`))])
  }
  return toJson(Object.fromEntries(known), path) as Record<string, JsonValue>
}
