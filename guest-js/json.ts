import { refused, type StorageSyncError } from './errors.js'
import type { JsonValue } from './types.js'

/** The backend's JSON reader stops at 128 levels; the call around a payload needs a few of them. */
const MAX_DEPTH = 100

/**
 * A deep copy of `value` as JSON would hold it, so that what the caller changes afterwards changes nothing.
 *
 * `JSON.stringify` silently drops or bends a good deal (`undefined`, `NaN`, a `Map`): here all of that is refused, with the path of
 * the offending value and never the value itself, which may be a secret.
 *
 * @throws StorageSyncError `invalid_argument`
 */
export function toJson(value: unknown, path: string): JsonValue {
  return copy(value, path, '', [])
}

function copy(value: unknown, path: string, name: string, above: object[]): JsonValue {
  switch (typeof value) {
    case 'string':
      if (halved(value)) throw refuse(path, 'text with half a surrogate pair', 'cut text between characters')
      return value
    case 'boolean':
      return value
    case 'number':
      if (!Number.isFinite(value)) throw refuse(path, String(value), 'use null or leave it out')
      return value
    case 'undefined':
      throw refuse(path, 'undefined', 'use null or leave it out')
    case 'bigint':
      throw refuse(path, 'a BigInt', 'send it as text')
    case 'symbol':
    case 'function':
      throw refuse(path, `a ${typeof value}`, 'leave it out')
    default:
      return value === null ? null : copyObject(value as object, path, name, above)
  }
}

function copyObject(value: object, path: string, name: string, above: object[]): JsonValue {
  if (above.includes(value)) throw refuse(path, 'a reference to what contains it', 'leave it out')
  if (above.length >= MAX_DEPTH) throw refuse(path, `nested more than ${MAX_DEPTH} levels deep`, 'flatten it')
  const inside = [...above, value]
  if (isTagged(value, 'Date') && Number.isNaN(Number(value))) throw refuse(path, 'an invalid Date', 'use null or leave it out')
  if ('toJSON' in value && typeof value.toJSON === 'function') {
    return copy((value.toJSON as (name: string) => unknown)(name), path, name, inside)
  }
  if (Array.isArray(value)) return copyArray(value, path, inside)
  if (!isTagged(value, 'Object')) {
    throw refuse(path, article(tag(value)), 'convert it to a plain object or an array')
  }
  return copyProperties(value, path, inside)
}

function copyArray(value: readonly unknown[], path: string, inside: object[]): JsonValue[] {
  // Not map(): it would skip holes, which JSON bends to null.
  return Array.from(value, (item, index) => copy(item, `${path}[${index}]`, String(index), inside))
}

function copyProperties(value: object, path: string, inside: object[]): JsonValue {
  const symbol = Object.getOwnPropertySymbols(value).find(key => Object.prototype.propertyIsEnumerable.call(value, key))
  if (symbol) throw refuse(path, 'an object with a symbol as a key', 'use text as keys')
  const entries = Object.entries(value).map(([name, item]): [string, JsonValue] => {
    const at = step(path, name)
    if (halved(name)) throw refuse(at, 'under a key with half a surrogate pair', 'cut text between characters')
    return [name, copy(item, at, name, inside)]
  })
  // fromEntries defines properties, so a key named __proto__ stays a key.
  return Object.fromEntries(entries)
}

/** Half a surrogate pair is no text, and no server could read it. In a Unicode pattern whole pairs do not match. */
function halved(text: string): boolean {
  return /\p{Surrogate}/u.test(text)
}

function step(path: string, name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? `${path}.${name}` : `${path}[${JSON.stringify(name)}]`
}

/** What kind of object it is, also when it comes from another window. */
export function tag(value: object): string {
  return Object.prototype.toString.call(value).slice('[object '.length, -1)
}

function isTagged(value: object, name: string): boolean {
  return tag(value) === name
}

function article(name: string): string {
  return `${/^[AEIO]/.test(name) ? 'an' : 'a'} ${name}`
}

function refuse(path: string, what: string, instead: string): StorageSyncError {
  return refused(`${path} is ${what}, which JSON cannot hold: ${instead}`)
}
