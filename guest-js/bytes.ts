import { refused } from './errors.js'
import { tag } from './json.js'

const OCTETS = 'application/octet-stream'

/** A payload that is not JSON. */
export interface Bytes {
  contentType: string
  /** The bytes as they were when the payload was given. */
  read(): Promise<Uint8Array<ArrayBuffer>>
}

/** The payload as bytes, if that is what it is. */
export function asBytes(payload: unknown, contentType: string | undefined): Bytes | undefined {
  const bytes = readable(payload, contentType)
  if (!bytes && contentType !== undefined) throw refused('options.contentType is for bytes: a JSON payload is application/json')
  return bytes
}

function readable(payload: unknown, contentType: string | undefined): Bytes | undefined {
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

/** A media type that can travel in a header. */
export function mediaType(given: string | undefined, own: string): string {
  const type = given ?? (own || OCTETS)
  // It travels in a header as it is.
  if (!/^[\x21-\x7e]+\/[\x20-\x7e]+$/.test(type)) {
    throw refused('options.contentType is a media type such as image/png, in ASCII')
  }
  return type
}
