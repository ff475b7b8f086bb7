import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

import { onEntry, syncEntries, type Change, type Entry, type EntryList } from '../index.js'
import { Backend, entryOf, gate, statusOf } from './backend.js'

let backend: Backend
let complaints: ReturnType<typeof vi.spyOn>

beforeEach(() => {
  vi.useFakeTimers()
  backend = new Backend().on('list', [])
  complaints = vi.spyOn(console, 'error').mockImplementation(() => {})
})
afterEach(() => {
  backend.close()
  vi.useRealTimers()
})

/** All that is due within a second has happened. */
const settled = () => vi.advanceTimersByTimeAsync(1000)

describe('onEntry', () => {
  test('hears each change until it is stopped', async () => {
    const run = vi.fn<(change: Change) => void>()
    const stop = await onEntry(run)
    await backend.changed({ id: 'a', state: 'inflight', seq: 4 })
    await backend.changed({ id: 'a', state: null, seq: 5 })
    expect(run.mock.calls).toEqual([
      [{ id: 'a', kind: 'form', state: 'inflight', seq: 4 }],
      [{ id: 'a', kind: 'form', state: null, seq: 5 }],
    ])
    stop()
    stop()
    await settled()
    await backend.changed({})
    expect(run).toHaveBeenCalledTimes(2)
    expect(backend.heard).toEqual([])
  })

  test('what a listener throws is reported and ends nothing', async () => {
    const run = vi.fn(() => {
      throw new Error('mine')
    })
    await onEntry(run)
    await backend.changed({})
    await backend.changed({})
    expect(run).toHaveBeenCalledTimes(2)
    expect(complaints).toHaveBeenCalledTimes(2)
  })

  test('aborted while it is being set up, it leaves nothing behind', async () => {
    const slow = gate()
    backend.on('plugin:event|listen', () => slow.promise)
    const end = new AbortController()
    const run = vi.fn()
    const listening = onEntry(run, { signal: end.signal })
    end.abort()
    slow.open()
    await listening
    await settled()
    await backend.changed({})
    expect(run).not.toHaveBeenCalled()
    expect(backend.heard).toEqual([])
  })

  test('a window that may not listen is told so', async () => {
    backend.on('plugin:event|listen', () => {
      throw 'not allowed'
    })
    await expect(onEntry(() => {})).rejects.toMatchObject({ code: 'ipc' })
  })
})

describe('syncEntries', () => {
  test('is empty and not ready before the first answer, then a frozen list', async () => {
    const live = syncEntries({ state: 'pending' })
    const before = live.getSnapshot()
    expect(before).toEqual([])
    expect(before.ready).toBe(false)
    expect(backend.calls).toEqual([])
    backend.on('list', [entryOf()])
    const run = vi.fn<(entries: EntryList) => void>()
    const stop = live.subscribe(run)
    expect(run.mock.calls).toEqual([[before]])
    await settled()
    expect(backend.last('list').args).toEqual({ query: { state: 'pending' } })
    const list = live.getSnapshot()
    expect(list).toEqual([entryOf()])
    expect([list.ready, Object.isFrozen(list), Object.isFrozen(list[0]), Object.isFrozen(list[0]?.waitingFor)]).toEqual([true, true, true, true])
    expect(run).toHaveBeenLastCalledWith(list)
    stop()
  })

  test('an empty answer makes it ready', async () => {
    const live = syncEntries()
    const run = vi.fn<(entries: EntryList) => void>()
    live.subscribe(run)
    await settled()
    expect(run.mock.calls.map(([entries]) => entries.ready)).toEqual([false, true])
  })

  test('a burst of changes is one look at the list', async () => {
    syncEntries().subscribe(() => {})
    await settled()
    for (let seq = 2; seq < 50; seq++) await backend.changed({ seq })
    await backend.announces(statusOf({ seq: 50 }))
    await settled()
    expect(backend.count('list')).toBe(2)
  })

  test('a change while a look is under way leads to another, one at a time', async () => {
    const live = syncEntries()
    let slow = gate<Entry[]>()
    backend.on('list', () => slow.promise)
    live.subscribe(() => {})
    await settled()
    await backend.changed({})
    await settled()
    await backend.changed({})
    await settled()
    expect(backend.count('list')).toBe(1)
    const first = slow
    slow = gate()
    first.open([entryOf()])
    await settled()
    expect(backend.count('list')).toBe(2)
    slow.open([entryOf({ state: 'acked' })])
    await settled()
    expect(live.getSnapshot()[0]?.state).toBe('acked')
    expect(backend.count('list')).toBe(2)
  })

  test('a status change alone is enough, since a hold changes why an entry waits', async () => {
    const live = syncEntries()
    backend.on('list', [entryOf()])
    live.subscribe(() => {})
    await settled()
    backend.on('list', [entryOf({ waitingFor: { reason: 'paused' } })])
    await backend.announces(statusOf({ seq: 2, paused: true }))
    await settled()
    expect(live.getSnapshot()[0]?.waitingFor).toEqual({ reason: 'paused' })
  })

  test('nothing happening, nothing is asked', async () => {
    syncEntries().subscribe(() => {})
    await settled()
    await vi.advanceTimersByTimeAsync(3_600_000)
    expect(backend.count('list')).toBe(1)
  })

  test('what did not change stays the same object, entry by entry and as a whole', async () => {
    const [a, b] = [entryOf({ id: 'a' }), entryOf({ id: 'b' })]
    const live = syncEntries()
    const run = vi.fn()
    backend.on('list', [a, b])
    live.subscribe(run)
    await settled()
    const first = live.getSnapshot()
    await backend.changed({})
    await settled()
    expect(live.getSnapshot()).toBe(first)
    expect(run).toHaveBeenCalledTimes(2)
    backend.on('list', [entryOf({ id: 'c' }), { ...a, attempts: 1 }, b])
    await backend.changed({})
    await settled()
    const second = live.getSnapshot()
    expect(second.map(entry => entry.id)).toEqual(['c', 'a', 'b'])
    expect(second[1]).not.toBe(first[0])
    expect(second[2]).toBe(first[1])
    backend.on('list', [b])
    await backend.changed({})
    await settled()
    expect(live.getSnapshot()).toEqual([b])
  })

  test('subscribed, unsubscribed and subscribed again, it leaks nothing and calls nobody who left', async () => {
    const live = syncEntries()
    const gone = vi.fn()
    live.subscribe(gone)()
    const stops = [live.subscribe(() => {}), live.subscribe(() => {})]
    await settled()
    expect(backend.heard.toSorted()).toEqual(['storage-sync://entry', 'storage-sync://status'])
    expect(backend.count('list')).toBe(1)
    expect(gone).toHaveBeenCalledTimes(1)
    await backend.changed({})
    stops.forEach(stop => stop())
    await settled()
    expect(backend.heard).toEqual([])
    expect(backend.count('list')).toBe(1)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('an answer for listeners that have all left changes nothing', async () => {
    const live = syncEntries()
    const slow = gate<Entry[]>()
    backend.on('list', () => slow.promise)
    const stop = live.subscribe(() => {})
    await settled()
    stop()
    slow.open([entryOf()])
    await settled()
    expect(live.getSnapshot()).toEqual([])
  })

  test('a failure is reported and the next change tries again', async () => {
    const live = syncEntries()
    backend.on('list', () => {
      throw { code: 'database', message: 'no' }
    })
    live.subscribe(() => {})
    await settled()
    expect(complaints).toHaveBeenCalledTimes(1)
    backend.on('list', [entryOf()])
    await backend.changed({})
    await settled()
    expect(live.getSnapshot().length).toBe(1)
  })

  test('a window that may not listen still shows the list once, and the lack is reported', async () => {
    backend.on('list', [entryOf()]).on('plugin:event|listen', () => {
      throw 'not allowed'
    })
    const live = syncEntries()
    live.subscribe(() => {})
    await settled()
    expect(live.getSnapshot().length).toBe(1)
    expect(complaints).toHaveBeenCalledTimes(1)
  })

  test('what the caller does to its query afterwards changes nothing', async () => {
    const query = { kind: 'form' }
    const live = syncEntries(query)
    query.kind = 'note'
    live.subscribe(() => {})
    await settled()
    expect(backend.last('list').args).toEqual({ query: { kind: 'form' } })
  })
})
