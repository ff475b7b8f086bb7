/** The form: what is typed is saved as one goes, and is there again after a restart. */
import { enqueue, list, payload, ref, type Entry } from 'tauri-plugin-storage-sync-api'

import { attempt, byId, toast, write } from './dom'
import { queue } from './queue'
import { clock, whyOf } from './words'

export interface Draft {
  title: string
  price: number | null
  description: string
}

/** A pause in typing that is worth a save. Milliseconds. */
const PAUSE = 250

const MEMORY = 'listing'

let key = ''
let saved: { id: string; at: number } | undefined
let timer: ReturnType<typeof setTimeout> | undefined

export function showListing(): void {
  const form = byId<HTMLFormElement>('listing')
  form.addEventListener('input', () => {
    clearTimeout(timer)
    timer = setTimeout(save, PAUSE)
    say('Saving…', 'pending')
  })
  form.addEventListener('submit', event => event.preventDefault())
  // Nothing that was typed may wait for a timer in a window that is going away.
  addEventListener('pagehide', saveNow)
  document.addEventListener('visibilitychange', saveNow)
  byId('listing-new').addEventListener('click', () => {
    saveNow()
    open(newKey())
    input('title').focus()
  })
  byId<HTMLFormElement>('note').addEventListener('submit', event => {
    event.preventDefault()
    void attempt(() => addNote(event.target as HTMLFormElement))
  })
  byId<HTMLInputElement>('photo').addEventListener('change', event => {
    void attempt(() => addPhoto(event.target as HTMLInputElement))
  })
  queue.subscribe(follow)

  open(localStorage.getItem(MEMORY) ?? newKey())
}

/** The listing that is open. */
export function listingKey(): string {
  return key
}

function newKey(): string {
  return `L-${crypto.randomUUID().slice(0, 8)}`
}

/** Turns to a listing, with an empty form. */
function open(listing: string): void {
  key = listing
  saved = undefined
  localStorage.setItem(MEMORY, listing)
  write(byId('listing-key'), listing)
  byId<HTMLFormElement>('listing').reset()
  say('Nothing typed yet', 'none')
}

/** Shows what was typed last: from the outbox while the server lacks it, else from the server. */
export async function restoreListing(backend: string): Promise<void> {
  await attempt(() => restore(backend))
}

async function restore(backend: string): Promise<void> {
  const listing = key
  const [newest] = await list({ kind: 'form', key: listing, state: ['pending', 'inflight', 'failed', 'acked'], limit: 1 })
  if (!newest) return
  const draft = newest.state === 'acked' ? await fromServer(backend, listing) : await payload<Draft>(newest.id)
  // Somebody was quicker with the keyboard.
  if (!draft || draft instanceof Uint8Array || key !== listing || saved || timer !== undefined) return
  fill(draft)
  saved = { id: newest.id, at: newest.createdAt }
  follow(queue.getSnapshot())
}

/** What another device made of a listing takes the place of what is in the form. */
export function takeOver(listing: string, draft: Draft): void {
  if (key !== listing) return
  clearTimeout(timer)
  timer = saved = undefined
  fill(draft)
  say('As it is on the server', 'acked')
}

function fill(draft: Draft): void {
  input('title').value = draft.title ?? ''
  input('price').value = typeof draft.price === 'number' ? String(draft.price) : ''
  input('description').value = draft.description ?? ''
}

/** The listing in the form. */
export function currentListing(): string {
  return key
}

export async function fromServer(backend: string, listing: string): Promise<Draft | undefined> {
  const answer = await fetch(`${backend}/listings/${encodeURIComponent(listing)}`).catch(() => undefined)
  return answer?.ok ? ((await answer.json()) as Draft) : undefined
}

function input(name: keyof Draft): HTMLInputElement {
  return byId<HTMLFormElement>('listing').elements.namedItem(name) as HTMLInputElement
}

function draft(): Draft {
  const price = input('price').valueAsNumber
  return {
    title: input('title').value,
    price: Number.isNaN(price) ? null : price,
    description: input('description').value,
  }
}

function saveNow(): void {
  if (timer !== undefined) save()
}

function save(): void {
  saveDraft().catch((error: Error) => say(`Not saved: ${error.message}`, 'failed'))
}

async function saveDraft(): Promise<string> {
  clearTimeout(timer)
  timer = undefined
  const listing = key
  const receipt = await enqueue('form', draft(), { key: listing })
  if (key === listing) {
    saved = { id: receipt.id, at: Date.now() }
    follow(queue.getSnapshot())
  }
  return receipt.id
}

/** What became of the last save. */
function follow(entries: readonly Entry[]): void {
  if (!saved || timer !== undefined) return
  const { id, at } = saved
  const entry = entries.find(entry => entry.id === id)
  const here = `Saved on this device at ${clock(at)}`
  // Not why it waits: that may count down, and this line is read out.
  if (!entry || entry.state === 'pending') say(`${here} · waiting for the server`, 'pending')
  else if (entry.state === 'acked') say('Saved on this device and on the server', 'acked')
  else say(`${here} · ${whyOf(entry)}`, entry.state)
}

function say(text: string, state: string): void {
  byId('saved').dataset['state'] = state
  write(byId('saved'), text)
}

async function addNote(form: HTMLFormElement): Promise<void> {
  const field = form.elements.namedItem('text') as HTMLInputElement
  const text = field.value.trim()
  if (!text) return
  await enqueue('note', { text }, { key, params: { listing: key } })
  field.value = ''
  field.focus()
}

async function addPhoto(field: HTMLInputElement): Promise<void> {
  const [file] = field.files ?? []
  if (!file) return
  // It goes below the id that the server gives the listing, which may never have heard of it yet.
  const listing = timer === undefined && saved ? saved.id : await saveDraft()
  await enqueue('photo', file, { params: { listing: ref(listing) } })
  field.value = ''
  toast('Photo saved on this device. It follows its listing.')
}
