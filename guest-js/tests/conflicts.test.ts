import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

import { conflicts, conflictsRead, edit, observe, onConflict, resolve, StorageSyncError, type Entry } from '../index.js'
import { Backend, entryOf, gate, statusOf } from './backend.js'

const id = (n: number) => `0193f6a0-0000-7000-8000-00000000000${n}`
const lost = (n: number, given: Partial<Entry> = {}) =>
  entryOf({ id: id(n), state: 'superseded', waitingFor: null, lost: true, conflict: true, attempts: 1, ...given })
let backend: Backend
/** What the backend still lists. */
let unread: Entry[]

beforeEach(() => {
  unread = []
  backend = new Backend()
    .on('conflicts', () => unread)
    .on('get', ({ id }: { id: string }) => unread.find(entry => entry.id === id) ?? entryOf({ id }))
    .on('conflicts_read', ({ ids }: { ids: string[] }) => {
      unread = unread.filter(entry => !ids.includes(entry.id))
    })
    .on('observe', null)
    .on('edit', null)
    .on('resolve', null)
})
afterEach(() => {
  vi.useRealTimers()
  backend.close()
})

test('what an app has read is told without what it did not say', async () => {
  await expect(observe('form', '42', { revision: 7, exists: true, etag: undefined })).resolves.toBeUndefined()
  expect(backend.last('observe').args).toEqual({ kind: 'form', key: '42', known: { revision: 7, exists: true } })
  await expect(observe('form', '42', { revision: NaN })).rejects.toThrow('known.revision is NaN')
  expect(backend.count('observe')).toBe(1)
})

test('an entry is edited with JSON or with bytes', async () => {
  await expect(edit('a', { at: new Date(0) })).resolves.toBeUndefined()
  expect(backend.last('edit')).toEqual({ command: 'edit', args: { id: 'a', payload: { at: '1970-01-01T00:00:00.000Z' } }, headers: {} })
  await edit('ü', Uint8Array.of(0, 255), { contentType: 'image/png' })
  const { args, headers } = backend.last('edit')
  expect([...(args as Uint8Array)]).toEqual([0, 255])
  expect(headers).toEqual({ 'x-id': '%C3%BC', 'x-content-type': 'image/png' })
  await expect(edit('a', undefined as never)).rejects.toThrow('payload is undefined')
  await expect(edit('a', 1, { contentType: 'a/b' })).rejects.toBeInstanceOf(StorageSyncError)
  expect(backend.count('edit')).toBe(2)
})

test('a conflict is decided by a choice or by a payload', async () => {
  for (const choice of ['mine', 'theirs'] as const) {
    await expect(resolve('a', choice)).resolves.toBeUndefined()
    expect(backend.last('resolve').args).toEqual({ id: 'a', choice })
  }
  await resolve('a', { title: 'both' })
  expect(backend.last('resolve').args).toEqual({ id: 'a', payload: { title: 'both' } })
  await resolve('a', new Uint8Array([1]))
  expect(backend.last('resolve').headers).toEqual({ 'x-id': 'a', 'x-content-type': 'application/octet-stream' })
})

test('the unread ones are listed and taken off the list', async () => {
  unread = [lost(1)]
  await expect(conflicts()).resolves.toEqual([lost(1)])
  await expect(conflictsRead([id(1)])).resolves.toBeUndefined()
  expect(backend.last('conflicts_read').args).toEqual({ ids: [id(1)] })
  await expect(conflicts()).resolves.toEqual([])
})

describe('who listens for conflicts', () => {
  test('gets what happened before, oldest first, one at a time, and each is read once it is handled', async () => {
    unread = [lost(1), lost(2)]
    const handled: string[] = []
    const first = gate()
    const stop = await onConflict(async entry => {
      handled.push(entry.id)
      if (entry.id === id(1)) await first.promise
    })
    await expect.poll(() => handled).toEqual([id(1)])
    expect(unread.length).toBe(2)
    first.open()
    await expect.poll(() => unread).toEqual([])
    expect(handled).toEqual([id(1), id(2)])
    stop()
    await expect.poll(() => backend.heard).toEqual([])
  })

  test('listens before it asks', async () => {
    let heardWhenAsked: string[] = []
    backend.on('conflicts', () => {
      heardWhenAsked = [...backend.heard]
      return []
    })
    await onConflict(() => {})
    expect(heardWhenAsked.toSorted()).toEqual(['storage-sync://entry', 'storage-sync://status'])
  })

  test('hears of a new one at once, and of other changes nothing', async () => {
    const handle = vi.fn()
    await onConflict(handle)
    const asked = backend.count('conflicts')
    await backend.changed({ id: id(1), state: 'acked' })
    unread = [lost(1)]
    await backend.changed({ id: id(1), state: 'superseded', conflict: true })
    await expect.poll(() => unread).toEqual([])
    expect(handle.mock.calls).toEqual([[lost(1)]])
    expect(backend.count('conflicts')).toBeLessThanOrEqual(asked + 2)
  })

  test('finds those of another process when the status changes, and looks once a second at most', async () => {
    vi.useFakeTimers()
    const handle = vi.fn()
    await onConflict(handle)
    await vi.advanceTimersByTimeAsync(0)
    const asked = backend.count('conflicts')
    unread = [lost(1)]
    for (let seq = 2; seq < 20; seq++) await backend.announces(statusOf({ seq }))
    await vi.advanceTimersByTimeAsync(999)
    expect(backend.count('conflicts')).toBe(asked)
    await vi.advanceTimersByTimeAsync(1)
    expect(handle).toHaveBeenCalledTimes(1)
    expect(unread).toEqual([])
    expect(backend.count('conflicts')).toBe(asked + 2)
  })

  test('gets one that it could not handle only when it meets another conflict', async () => {
    const reported = vi.spyOn(console, 'error').mockImplementation(() => {})
    unread = [lost(1), lost(2)]
    const handle = vi.fn(async (entry: Entry) => {
      if (entry.id === id(1)) throw new Error('on purpose')
    })
    await onConflict(handle)
    await expect.poll(() => unread.map(entry => entry.id)).toEqual([id(1)])
    expect(reported).toHaveBeenCalledTimes(1)
    await backend.changed({ id: id(2), conflict: true })
    await expect.poll(() => backend.count('conflicts')).toBeGreaterThan(2)
    expect(handle.mock.calls.map(([entry]) => entry.id)).toEqual([id(1), id(2)])
    handle.mockResolvedValue(undefined)
    unread = [lost(1, { attempts: 2 })]
    await backend.changed({ id: id(1), conflict: true })
    await expect.poll(() => unread).toEqual([])
    // Who listens anew gets what is unread, whatever became of it before.
    expect(handle).toHaveBeenCalledTimes(3)
  })

  test('has not read of a second conflict that came while the first was handled', async () => {
    unread = [lost(1)]
    const seen: number[] = []
    await onConflict(async entry => {
      seen.push(entry.attempts)
      if (entry.attempts > 1) return
      unread = [lost(1, { attempts: 2 })]
      await backend.changed({ id: id(1), conflict: true })
    })
    await expect.poll(() => seen).toEqual([1, 2])
    await expect.poll(() => unread).toEqual([])
  })

  test('may decide in its handler', async () => {
    unread = [lost(1)]
    backend.on('resolve', () => {
      unread = []
    })
    await onConflict(entry => resolve(entry.id, 'mine'))
    await expect.poll(() => backend.count('resolve')).toBe(1)
    await expect.poll(() => backend.count('conflicts')).toBe(2)
    expect(backend.count('conflicts_read')).toBe(0)
  })

  test('hears nothing more once it has stopped', async () => {
    unread = [lost(1), lost(2)]
    const first = gate()
    const handle = vi.fn(() => first.promise)
    const abort = new AbortController()
    await onConflict(handle, { signal: abort.signal })
    await expect.poll(() => handle.mock.calls.length).toBe(1)
    abort.abort()
    first.open()
    await expect.poll(() => unread.map(entry => entry.id)).toEqual([id(2)])
    expect(handle).toHaveBeenCalledTimes(1)
    await expect.poll(() => backend.heard).toEqual([])
  })

  test('is told where the conflicts cannot be read, and listens to nothing then', async () => {
    backend.on('conflicts', () => {
      throw { code: 'database', message: 'broken' }
    })
    await expect(onConflict(() => {})).rejects.toMatchObject({ code: 'database' })
    await expect.poll(() => backend.heard).toEqual([])
  })

  test('reports a look that failed later and looks again at the next change', async () => {
    const reported = vi.spyOn(console, 'error').mockImplementation(() => {})
    const handle = vi.fn()
    await onConflict(handle)
    backend.on('conflicts', () => {
      throw { code: 'database', message: 'broken' }
    })
    await expect.poll(() => backend.count('conflicts')).toBe(1)
    await backend.changed({ id: id(1), conflict: true })
    await expect.poll(() => reported.mock.calls.length).toBe(1)
    backend.on('conflicts', () => unread)
    unread = [lost(1)]
    await backend.changed({ id: id(1), conflict: true })
    await expect.poll(() => unread).toEqual([])
    expect(handle).toHaveBeenCalledTimes(1)
  })

  test('does nothing when it was stopped before it began', async () => {
    await onConflict(() => {}, { signal: AbortSignal.abort() })
    expect([backend.heard, backend.calls]).toEqual([[], []])
  })
})
