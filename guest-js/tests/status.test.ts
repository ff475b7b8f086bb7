import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

import type { Status } from '../index.js'
import { Backend, gate, settled, statusOf } from './backend.js'

let backend: Backend
let api: typeof import('../index.js')
let complaints: ReturnType<typeof vi.spyOn>

beforeEach(async () => {
  backend = new Backend().on('status', statusOf())
  complaints = vi.spyOn(console, 'error').mockImplementation(() => {})
  // A fresh module is a fresh page.
  vi.resetModules()
  api = await import('../index.js')
})
afterEach(() => backend.close())

const seqs = (run: { mock: { calls: Status[][] } }) => run.mock.calls.map(([status]) => status?.seq)

describe('subscribe', () => {
  test('calls at once and at every change, and stop ends it', async () => {
    const run = vi.fn<(status: Status) => void>()
    const stop = await api.subscribe(run)
    expect(run.mock.calls).toEqual([[statusOf()]])
    await backend.announces(statusOf({ seq: 2, pending: 1 }))
    expect(run).toHaveBeenLastCalledWith(statusOf({ seq: 2, pending: 1 }))
    stop()
    stop()
    await settled()
    await backend.announces(statusOf({ seq: 3 }))
    expect(seqs(run)).toEqual([1, 2])
    expect(backend.heard).toEqual([])
  })

  test('listens before it asks', async () => {
    const order: string[] = []
    backend.on('plugin:event|listen', () => order.push('listen')).on('status', () => {
      order.push('status')
      return statusOf()
    })
    await api.subscribe(() => {})
    expect(order).toEqual(['listen', 'status'])
  })

  test('what changed while it was asked is asked for once more', async () => {
    const first = gate<Status>()
    backend.on('status', () => first.promise)
    const run = vi.fn<(status: Status) => void>()
    const subscribing = api.subscribe(run)
    await settled()
    for (const seq of [7, 8, 9]) await backend.announces(statusOf({ seq, pending: 3 }))
    expect(backend.count('status')).toBe(1)
    first.open(statusOf({ seq: 6 }))
    await subscribing
    await settled()
    expect(seqs(run)).toEqual([6, 9])
    expect(backend.count('status')).toBe(2)
  })

  test('an event alone changes nothing: any window may hear and send them', async () => {
    const run = vi.fn<(status: Status) => void>()
    await api.subscribe(run)
    await backend.changes(statusOf({ seq: 7, pending: 3 }))
    await settled()
    expect(run.mock.calls).toEqual([[statusOf()]])
  })

  test('news out of order never goes back', async () => {
    const run = vi.fn<(status: Status) => void>()
    await api.subscribe(run)
    for (const seq of [2, 5, 3, 4, 5, 6]) await backend.announces(statusOf({ seq }))
    expect(seqs(run)).toEqual([1, 2, 5, 6])
  })

  test('what one listener throws does not reach the others, and is reported', async () => {
    const run = vi.fn()
    await api.subscribe(() => {
      throw new Error('mine')
    })
    await api.subscribe(run)
    await backend.announces(statusOf({ seq: 2 }))
    expect(run).toHaveBeenCalledTimes(2)
    expect(complaints).toHaveBeenCalledWith(expect.stringContaining('listener'), expect.objectContaining({ message: 'mine' }))
  })

  test('many listeners share one subscription and get the same object, each at once', async () => {
    const seen: Status[] = []
    const stops = await Promise.all([1, 2, 3].map(() => api.subscribe(status => seen.push(status))))
    stops.push(await api.subscribe(status => seen.push(status)))
    expect(seen.length).toBe(4)
    expect(new Set(seen).size).toBe(1)
    expect([backend.heard.length, backend.count('status')]).toEqual([1, 1])
    stops.forEach(stop => stop())
    await settled()
    expect(backend.heard).toEqual([])
  })

  test('the same function may be given twice and each stop ends one', async () => {
    const run = vi.fn()
    const [stop] = [await api.subscribe(run), await api.subscribe(run)]
    stop()
    await backend.announces(statusOf({ seq: 2 }))
    expect(run).toHaveBeenCalledTimes(3)
  })

  test('a listener that takes another one out in its call is obeyed at once', async () => {
    const run = vi.fn()
    let stop = () => {}
    await api.subscribe(status => status.seq === 2 && stop())
    stop = await api.subscribe(run)
    await backend.announces(statusOf({ seq: 2 }))
    expect(run).toHaveBeenCalledTimes(1)
  })

  test.each(['plugin:event|listen', 'status'])('aborted while %s is awaited, it never calls and leaves nothing behind', async command => {
    const slow = gate()
    backend.on(command, async () => {
      await slow.promise
      return statusOf()
    })
    const run = vi.fn()
    const end = new AbortController()
    const subscribing = api.subscribe(run, { signal: end.signal })
    await settled()
    end.abort()
    slow.open()
    const stop = await subscribing
    stop()
    await settled()
    await backend.announces(statusOf({ seq: 2 }))
    expect(run).not.toHaveBeenCalled()
    expect(backend.heard).toEqual([])
  })

  test('aborted before or after, it is silent', async () => {
    const run = vi.fn()
    await api.subscribe(run, { signal: AbortSignal.abort() })
    expect(backend.calls).toEqual([])
    const end = new AbortController()
    await api.subscribe(run, { signal: end.signal })
    end.abort()
    await settled()
    expect(run).toHaveBeenCalledTimes(1)
    expect(backend.heard).toEqual([])
  })

  test.each(['plugin:event|listen', 'status'])('when %s fails it rejects, leaves nothing behind, and the next call works', async command => {
    backend.on(command, () => {
      throw { code: 'closed', message: 'no' }
    })
    const run = vi.fn()
    await expect(api.subscribe(run)).rejects.toBeInstanceOf(api.StorageSyncError)
    await settled()
    expect(backend.heard).toEqual([])
    backend.on('plugin:event|listen', null).on('status', statusOf())
    await api.subscribe(run)
    expect(run).toHaveBeenCalledTimes(1)
  })

  test('a window that may not listen is told which permission is missing', async () => {
    backend.on('plugin:event|listen', () => {
      throw 'event.listen not allowed'
    })
    await expect(api.subscribe(() => {})).rejects.toMatchObject({
      code: 'ipc',
      message: expect.stringContaining('core:event:default'),
    })
  })
})

describe('syncStatus', () => {
  test('is not ready and all zeros before the first answer, then the same frozen object until it changes', async () => {
    const before = api.syncStatus.getSnapshot()
    expect(before).toMatchObject({ ready: false, pending: 0, inflight: 0, acked: 0, failed: 0, holds: [] })
    expect(api.syncStatus.getSnapshot()).toBe(before)
    const run = vi.fn<(status: Status) => void>()
    const stop = api.syncStatus.subscribe(run)
    expect(run.mock.calls).toEqual([[before]])
    await settled()
    const first = api.syncStatus.getSnapshot()
    expect(first).toEqual(statusOf())
    await backend.announces(statusOf())
    expect(api.syncStatus.getSnapshot()).toBe(first)
    await backend.announces(statusOf({ seq: 2, holds: [{ kind: null, origin: 'http://a', waitingFor: { reason: 'offline', origin: 'http://a' } }] }))
    const second = api.syncStatus.getSnapshot()
    expect(second).not.toBe(first)
    expect([before, first, second, second.key, second.holds, second.holds[0], second.holds[0]?.waitingFor].every(Object.isFrozen)).toBe(true)
    expect(run.mock.calls).toEqual([[before], [first], [second]])
    stop()
  })

  test('subscribed, unsubscribed and subscribed again, as StrictMode does, it listens once and leaks nothing', async () => {
    const run = vi.fn()
    api.syncStatus.subscribe(run)()
    const stop = api.syncStatus.subscribe(run)
    await settled()
    expect(backend.heard).toEqual(['storage-sync://status'])
    expect(backend.count('status')).toBe(1)
    stop()
    stop()
    await settled()
    expect(backend.heard).toEqual([])
    expect(complaints).not.toHaveBeenCalled()
  })

  test('shares its subscription with subscribe, and outlives it', async () => {
    const stop = await api.subscribe(() => {})
    const leave = api.syncStatus.subscribe(() => {})
    await settled()
    expect([backend.heard.length, backend.count('status')]).toEqual([1, 1])
    stop()
    await backend.announces(statusOf({ seq: 2 }))
    expect(api.syncStatus.getSnapshot().seq).toBe(2)
    leave()
    await settled()
    expect(backend.heard).toEqual([])
  })

  test('subscribed again after a pause it keeps the old value until it has asked anew', async () => {
    const leave = api.syncStatus.subscribe(() => {})
    await settled()
    leave()
    const old = api.syncStatus.getSnapshot()
    backend.on('status', statusOf({ seq: 9 }))
    const run = vi.fn<(status: Status) => void>()
    api.syncStatus.subscribe(run)
    await settled()
    expect(run.mock.calls).toEqual([[old], [statusOf({ seq: 9 })]])
    expect(backend.heard).toEqual(['storage-sync://status'])
  })

  test('an answer for listeners that have all left changes nothing', async () => {
    const first = gate<Status>()
    backend.on('status', () => first.promise)
    const stop = api.syncStatus.subscribe(() => {})
    await settled()
    stop()
    first.open(statusOf({ seq: 5 }))
    await settled()
    expect(api.syncStatus.getSnapshot().ready).toBe(false)
  })

  test('a failure is reported and the next news still arrives', async () => {
    backend.on('status', () => {
      throw { code: 'database', message: 'no' }
    })
    const run = vi.fn()
    api.syncStatus.subscribe(run)
    await settled()
    expect(complaints).toHaveBeenCalledTimes(1)
    await backend.changes(statusOf({ seq: 2 }))
    await settled()
    expect(complaints).toHaveBeenCalledTimes(2)
    await backend.announces(statusOf({ seq: 2 }))
    expect(run).toHaveBeenLastCalledWith(statusOf({ seq: 2 }))
  })

  test('its functions work without this, as React and Svelte call them', async () => {
    const { subscribe, getSnapshot } = api.syncStatus
    const stop = subscribe(() => {})
    await settled()
    expect(getSnapshot().ready).toBe(true)
    stop()
  })
})
