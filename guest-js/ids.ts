import { refused } from './errors.js'
import type { Named } from './types.js'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/**
 * A fresh id for an entry that is yet to be enqueued (a UUID of version 7), so that others can name it before it has a receipt: see
 * `enqueueAll`. With such an id `enqueue` may also be repeated safely.
 */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  // RFC 9562, 5.7: 48 bits of Unix time in milliseconds, the version, the variant, and chance for the rest.
  const time = Date.now()
  for (let at = 0; at < 6; at++) bytes[at] = Math.floor(time / 2 ** (8 * (5 - at))) % 256
  bytes[6] = 0x70 | (bytes[6]! & 0x0f)
  bytes[8] = 0x80 | (bytes[8]! & 0x3f)
  const hex = Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

/**
 * A text that stands for the id which the server will give the thing of that entry. Put it anywhere in a text of a later entry's JSON
 * payload or params: that entry waits until the id is known, and carries it in place of the text.
 *
 * @param entry - The receipt of an entry whose endpoint's answers hold an id (`ack.id`), or its id.
 * @throws {@link StorageSyncError} `invalid_argument` for what is neither.
 *
 * @example
 * ```ts
 * const listing = await enqueue('listing', draft, { key: 'draft/7' })
 * await enqueue('photo', file, { params: { listing: ref(listing) } })
 * await enqueue('note', { text: 'For the listing', about: `/listings/${ref(listing)}` })
 * ```
 */
export function ref(entry: Named): string {
  return `{storage-sync:${idOf(entry, 'ref')}}`
}

/** The id that is meant. */
export function idOf(entry: Named, what: string): string {
  const id: unknown = typeof entry === 'object' && entry !== null ? entry.id : entry
  if (typeof id !== 'string' || !UUID.test(id)) throw refused(`${what} takes a receipt, or the id of one`)
  return id.toLowerCase()
}
