import { afterEach, beforeEach, expect, test } from 'vitest'

import * as api from '../index.js'
import { Backend, entryOf } from './backend.js'

let backend: Backend

beforeEach(() => {
  backend = new Backend()
})
afterEach(() => backend.close())

test('list and get ask for entries', async () => {
  const entry = entryOf()
  backend.on('list', [entry]).on('get', entry)
  await expect(api.list({ state: ['failed', 'pending'], kind: 'form', limit: 5 })).resolves.toEqual([entry])
  expect(backend.last('list').args).toEqual({ query: { state: ['failed', 'pending'], kind: 'form', limit: 5 } })
  await api.list()
  expect(backend.last('list').args).toEqual({ query: {} })
  await expect(api.get(entry.id)).resolves.toEqual(entry)
  expect(backend.last('get').args).toEqual({ id: entry.id })
})

test('delivered and flush take milliseconds or wait without limit', async () => {
  const entry = entryOf({ state: 'acked' })
  backend.on('delivered', entry).on('flush', { acked: 1, failed: 0, waiting: 2 })
  await expect(api.delivered('a', { timeout: 1500.2 })).resolves.toEqual(entry)
  expect(backend.last('delivered').args).toEqual({ id: 'a', timeoutMs: 1501 })
  await api.delivered('a')
  expect(JSON.stringify(backend.last('delivered').args)).toBe('{"id":"a"}')
  await expect(api.flush({ timeout: 0 })).resolves.toEqual({ acked: 1, failed: 0, waiting: 2 })
  expect(backend.last('flush').args).toEqual({ timeoutMs: 0 })
})

test.each([-1, NaN, Infinity, '5'])('a timeout of %s is refused before it is sent', async timeout => {
  const options = { timeout: timeout as number }
  await expect(api.flush(options)).rejects.toMatchObject({ code: 'invalid_argument' })
  await expect(api.delivered('a', options)).rejects.toMatchObject({ code: 'invalid_argument' })
  expect(backend.calls).toEqual([])
})

test('retry and discard take an id or a filter', async () => {
  backend.on('retry', ['a']).on('discard', { ids: ['a'], possiblyApplied: [], inflight: [], orphaned: [] })
  await expect(api.retry('a', { force: true })).resolves.toEqual(['a'])
  expect(backend.last('retry').args).toEqual({ which: 'a', force: true })
  await api.retry({ kind: 'form', state: 'failed' })
  expect(JSON.stringify(backend.last('retry').args)).toBe('{"which":{"kind":"form","state":"failed"}}')
  await expect(api.discard('all')).resolves.toEqual({ ids: ['a'], possiblyApplied: [], inflight: [], orphaned: [] })
  expect(JSON.stringify(backend.last('discard').args)).toBe('{"which":"all"}')
  await api.discard('a', { cascade: true })
  expect(backend.last('discard').args).toEqual({ which: 'a', cascade: true })
})

test('pause and resume are about everything, or about the entry that is named, and never about everything by mistake', async () => {
  backend.on('pause', null).on('resume', null)
  await api.pause()
  expect(backend.last('pause').args).toEqual({})
  await api.pause('a')
  expect(backend.last('pause').args).toEqual({ id: 'a' })
  await api.resume('a')
  expect(backend.last('resume').args).toEqual({ id: 'a' })
  const missing = undefined as unknown as string
  await expect(api.pause(missing)).rejects.toMatchObject({ code: 'invalid_argument' })
  await expect(api.resume(missing)).rejects.toMatchObject({ code: 'invalid_argument' })
  expect([backend.count('pause'), backend.count('resume')]).toEqual([2, 1])
})

test('pause, resume and setCredentials answer nothing', async () => {
  backend.on('pause', null).on('resume', null).on('set_credentials', null)
  await expect(api.pause()).resolves.toBeUndefined()
  await expect(api.resume()).resolves.toBeUndefined()
  const headers = { Authorization: 'Bearer t' }
  await expect(api.setCredentials({ headers, origin: 'https://a.example' })).resolves.toBeUndefined()
  expect(JSON.stringify(backend.last('set_credentials').args)).toBe(
    '{"origin":"https://a.example","headers":{"Authorization":"Bearer t"}}',
  )
})

test('a header that is no text is refused without showing the others', async () => {
  const headers = { Authorization: 'Bearer t', 'X-A': undefined } as unknown as Record<string, string>
  const thrown = await api.setCredentials({ headers }).catch((error: unknown) => error)
  expect(thrown).toMatchObject({ code: 'invalid_argument' })
  expect(String(thrown)).not.toContain('Bearer')
})

test('payload answers the JSON value that was given', async () => {
  for (const json of [{ a: 1 }, null, 'text', 0, []]) {
    backend.on('payload', { contentType: 'application/json', json })
    await expect(api.payload('a')).resolves.toEqual(json)
  }
})

test('payload answers the bytes that were given, however IPC carried them', async () => {
  const header = new TextEncoder().encode('{"contentType":"image/png"}')
  const framed = Uint8Array.of(0, 0, 0, header.length, ...header, 0, 255, 7)
  for (const carried of [framed.buffer, framed, [...framed]]) {
    backend.on('payload', carried)
    await expect(api.payload('a')).resolves.toEqual(Uint8Array.of(0, 255, 7))
  }
})

test('rotateKey answers what was done', async () => {
  const rotated = { rewrapped: 3, unreadable: 0, finished: true }
  backend.on('rotate_key', rotated)
  await expect(api.rotateKey()).resolves.toEqual(rotated)
})
