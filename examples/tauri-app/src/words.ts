import type { Entry, KeyState, Reason, State, Status, WaitingFor, WatchState } from 'tauri-plugin-storage-sync-api'

export const STATE_WORDS: Record<State, string> = {
  pending: 'Waiting',
  inflight: 'Sending',
  acked: 'Delivered',
  failed: 'Failed',
  superseded: 'Replaced',
}

export const KEY_WORDS: Record<KeyState, string> = {
  unused: 'Encrypted · the key is fetched when first needed',
  ready: 'Encrypted · key in the system keychain',
  locked: 'The keychain is locked: unlock it to go on',
  unavailable: 'No keychain: start a Secret Service to go on',
  missing: 'The keychain no longer has the key: restore it to go on',
  mismatch: 'The keychain has another key: restore the right one to go on',
}

/** What somebody has to do so that what waits for the key is sent; empty where nobody has to do anything. */
export function keyNotice({ key, pending }: Status): string {
  if (pending === 0) return ''
  const what = pending === 1 ? 'One change that you saved is' : `${pending} changes that you saved are`
  const safe = `${what} safe on this device, encrypted,`
  switch (key.state) {
    case 'locked':
      return `Your keychain is locked. ${safe} and will be sent once you unlock it.`
    case 'unavailable':
      return `The keychain of your system does not answer. ${safe} and will be sent once it does.`
    case 'missing':
      return `Your keychain no longer holds the key of this app. ${safe} and will be sent once you restore it.`
    case 'mismatch':
      return `Your keychain holds another key than the one of this app. ${safe} and will be sent once you restore it.`
    default:
      return ''
  }
}

export const WATCH_WORDS: Record<WatchState, string> = {
  watching: 'Watching',
  scanning: 'Looked through now and then',
  missing: 'Not there',
  waiting: 'Not followed here yet',
}

const REASON_WORDS: Record<Reason, string> = {
  refused: 'The server refused it',
  conflict: 'It was changed on another device: decide which version stands',
  'outcome-unknown': 'It may have arrived: look before sending it again',
  unproven: 'The server never proved that it has it',
  undecryptable: 'Its record on disk is damaged',
  'parent-gone': 'What it belongs to was removed',
}

const KIND_WORDS: Record<string, string> = { form: 'Listing', note: 'Note', photo: 'Photo', file: 'File', scan: 'Scan' }

/** What an entry is about. */
export function whatOf(entry: Entry): string {
  const kind = KIND_WORDS[entry.kind] ?? entry.kind
  return entry.key ? `${kind} ${entry.key}` : kind
}

/** What is going on with an entry, as one sentence. */
export function whyOf(entry: Entry): string {
  switch (entry.state) {
    case 'pending':
      if (entry.paused) return 'Paused'
      return entry.waitingFor ? waitingWords(entry.waitingFor) : 'Next in line'
    case 'inflight':
      return 'On its way'
    case 'acked':
      return entry.canonicalId ? `The server has it as ${shortened(entry.canonicalId)}` : 'The server has it'
    case 'failed':
      return entry.reason ? REASON_WORDS[entry.reason] : 'It was given up'
    case 'superseded':
      return entry.lost ? 'The server has something newer' : 'A newer version took its place'
  }
}

/** Why something waits. */
export function waitingWords(waiting: WaitingFor): string {
  switch (waiting.reason) {
    case 'backoff':
      return `Trying again ${until(waiting.until)}`
    case 'dependency':
      return 'Waits until the server has given its listing an id'
    case 'offline':
      return `Cannot reach ${waiting.origin}`
    case 'busy':
      return `The server asked to wait: again ${until(waiting.until)}`
    case 'lane':
      return 'An earlier one goes first'
    case 'auth':
      return 'Sign in to send it'
    case 'unproven':
      return 'Something answers in place of the server'
    case 'refusing':
      return 'The server refuses everything of this kind'
    case 'keychain':
      return KEY_WORDS[waiting.key]
    case 'paused':
      return 'Delivery is paused'
    case 'endpoint':
      return 'This version of the app does not know where to send it'
    case 'turn':
      return 'Next in line'
  }
}

/** Whether its words change with time alone. */
export function counts(waiting: WaitingFor | null): boolean {
  return (waiting?.reason === 'backoff' || waiting?.reason === 'busy') && waiting.until > Date.now()
}

/** A moment ahead. */
function until(at: number): string {
  const seconds = Math.ceil((at - Date.now()) / 1000)
  if (seconds <= 0) return 'now'
  if (seconds < 100) return `in ${seconds} s`
  return `at ${clock(at)}`
}

/** A moment of today, or a date. */
export function clock(at: number): string {
  const date = new Date(at)
  const today = date.toDateString() === new Date().toDateString()
  return date.toLocaleString([], today ? { timeStyle: 'medium' } : { dateStyle: 'medium', timeStyle: 'short' })
}

/** How long something takes. */
export function timeOf(ms: number): string {
  const seconds = Math.max(1, Math.round(ms / 1000))
  if (seconds < 100) return `${seconds} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 100 ? `${minutes} min` : `${Math.round(minutes / 60)} h`
}

export function sizeOf(bytes: number): string {
  if (bytes < 1024) return `${bytes} bytes`
  const units = ['KiB', 'MiB', 'GiB', 'TiB']
  let size = bytes / 1024
  let unit = 0
  for (; size >= 1024 && unit < units.length - 1; unit++) size /= 1024
  return `${size.toFixed(size < 100 ? 1 : 0)} ${units[unit]}`
}

function shortened(id: string): string {
  return id.length > 13 ? `…${id.slice(-8)}` : id
}
