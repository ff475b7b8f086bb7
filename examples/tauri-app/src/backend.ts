/** Switches for the demonstration server, which has control routes that no real one has. */
import { syncStatus } from 'tauri-plugin-storage-sync-api'

import { attempt, byId, copyOf, toast, write } from './dom'
import { currentListing, fromServer } from './listing'

interface Fault {
  type: string
  [setting: string]: unknown
}

interface Rule {
  fault: Fault
  scope?: Record<string, string>
  times?: number
  applied?: boolean
}

interface Control {
  rules: (Rule & { id: number })[]
  authorization: boolean
  received: number
  applied: number
  replayed: number
}

interface Switch {
  name: string
  title: string
  hint: string
  rule: Rule
}

const SWITCHES: readonly Switch[] = [
  { name: 'down', title: 'Down', hint: 'resets every connection', rule: { fault: { type: 'down' } } },
  { name: 'slow', title: 'Slow', hint: 'three seconds more each', rule: { fault: { type: 'slow', ms: 3000 } } },
  { name: '500', title: 'Broken', hint: '500 to everything', rule: { fault: { type: 'status', status: 500 } } },
  {
    name: '503',
    title: 'Overloaded',
    hint: '503, Retry-After 10 s',
    rule: { fault: { type: 'status', status: 503, retryAfter: { seconds: 10 } } },
  },
  {
    name: '429',
    title: 'Rate limit',
    hint: '429, Retry-After 10 s',
    rule: { fault: { type: 'status', status: 429, retryAfter: { seconds: 10 } } },
  },
  { name: 'drop-before', title: 'Lost request', hint: 'drops it unread', rule: { fault: { type: 'drop' } } },
  {
    name: 'drop-after',
    title: 'Lost answer',
    hint: 'applies the next, says nothing',
    rule: { fault: { type: 'drop' }, times: 1, applied: true },
  },
  { name: 'portal', title: 'Captive portal', hint: '200 and a page of HTML', rule: { fault: { type: 'portal' } } },
  {
    name: 'redirect',
    title: 'Redirect',
    hint: 'to another origin',
    rule: { fault: { type: 'redirect', to: 'http://other.invalid/' } },
  },
  { name: 'endless', title: 'Endless answer', hint: 'a body without an end', rule: { fault: { type: 'endless' } } },
  {
    name: 'refuse',
    title: 'Refuse listings',
    hint: '422 to one kind only',
    rule: { fault: { type: 'status', status: 422 }, scope: { kind: 'listings' } },
  },
  {
    name: 'poison',
    title: 'Poison',
    hint: '422 where “poison” occurs',
    rule: { fault: { type: 'status', status: 422 }, scope: { marker: 'poison' } },
  },
]

/** Who may write while a sign-in is asked for. */
const TOKENS = { demo: 'Demo user', ada: 'Ada', eve: 'Eve' }

const boxes = new Map<string, HTMLInputElement>()
let control: Control | undefined
let looking = false
let lookAgain = false
let url = ''
let server = ''

export function showBackend(backend: string): void {
  url = `${backend}/__control`
  server = backend
  write(byId('backend-url'), backend)
  for (const { name, title, hint, rule } of SWITCHES) {
    addSwitch(name, title, hint, on => (on ? add(rule) : remove(rule)))
  }
  addSwitch('401', 'Ask for sign-in', '401 without the token demo, ada or eve', on => {
    return ask('', 'PUT', { tokens: on ? TOKENS : null })
  })
  byId('behave').addEventListener('click', () => {
    change(async () => {
      await ask('/clear', 'POST')
      await ask('', 'PUT', { tokens: null })
    })
  })
  byId('edit-elsewhere').addEventListener('click', () => change(editElsewhere))
  // Whenever something was sent the server's figures have moved, and a rule may be used up.
  syncStatus.subscribe(() => void look())
  addEventListener('focus', () => void look())
}

function addSwitch(name: string, title: string, hint: string, turn: (on: boolean) => Promise<unknown>): void {
  const label = copyOf<HTMLLabelElement>('switch')
  const box = label.querySelector('input')!
  box.dataset['testid'] = `fault-${name}`
  write(label.querySelector('strong')!, title)
  write(label.querySelector<HTMLElement>('.sub')!, hint)
  box.addEventListener('change', () => change(() => turn(box.checked)))
  boxes.set(name, box)
  byId('faults').append(label)
}

function change(work: () => Promise<unknown>): void {
  void attempt(async () => {
    try {
      await work()
    } finally {
      await look()
    }
  })
}

async function add(rule: Rule): Promise<void> {
  await ask('/rules', 'POST', rule)
}

async function remove(rule: Rule): Promise<void> {
  const matching = control?.rules.filter(active => isSame(active, rule)) ?? []
  await Promise.all(matching.map(active => ask(`/rules/${active.id}`, 'DELETE')))
}

/** What a phone with the same listing would do meanwhile. From then on the server refuses what does not know of it. */
async function editElsewhere(): Promise<void> {
  const listing = currentListing()
  const before = await fromServer(server, listing)
  await ask('', 'PUT', { revisions: 'compare' })
  await ask('/edit', 'POST', {
    path: `/listings/${encodeURIComponent(listing)}`,
    merge: {
      title: before?.title ?? '',
      price: Math.round((before?.price ?? 100) * 0.8),
      description: 'Reduced, must go this week. Written on the phone.',
    },
  })
  toast('Changed on another device. Type something to meet it.')
}

/** Whether a rule in force is that of a switch, whoever made it. */
function isSame(active: Rule, rule: Rule): boolean {
  return (
    active.fault.type === rule.fault.type &&
    active.fault['status'] === (rule.fault['status'] ?? active.fault['status']) &&
    (active.applied ?? false) === (rule.applied ?? false) &&
    JSON.stringify(active.scope ?? {}) === JSON.stringify(rule.scope ?? {})
  )
}

/** Shows what the server says of itself. One look at a time; a wish that comes meanwhile leads to one more. */
async function look(): Promise<void> {
  lookAgain = true
  if (looking) return
  looking = true
  while (lookAgain) {
    lookAgain = false
    control = await ask<Control>('', 'GET').catch(() => undefined)
    show()
  }
  looking = false
}

function show(): void {
  const state = byId('backend-state')
  state.dataset['tone'] = control ? 'good' : 'bad'
  write(
    state,
    control
      ? `${control.received} requests received, ${control.applied} writes applied, ${control.replayed} repeats recognised`
      : 'Not running. What you save waits for it.',
  )
  for (const { name, rule } of SWITCHES) set(name, control?.rules.some(active => isSame(active, rule)))
  set('401', control?.authorization)
  for (const id of ['behave', 'edit-elsewhere']) byId<HTMLButtonElement>(id).disabled = !control
}

function set(name: string, on: boolean | undefined): void {
  const box = boxes.get(name)!
  box.disabled = !control
  box.checked = on ?? false
}

async function ask<T>(path: string, method: string, body?: unknown): Promise<T | undefined> {
  const answer = await fetch(url + path, {
    method,
    ...(body === undefined ? {} : { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`The backend does not do that: ${answer.status} ${text}`)
  return text ? (JSON.parse(text) as T) : undefined
}
