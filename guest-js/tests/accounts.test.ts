import { emit } from '@tauri-apps/api/event'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import * as api from '../index.js'
import type { Hold } from '../index.js'
import { Backend, gate, settled, statusOf } from './backend.js'

let backend: Backend

beforeEach(() => {
  backend = new Backend()
})
afterEach(() => backend.close())

const required = async () => {
  await emit('storage-sync://auth', null)
  await settled()
}
const hold = (origin: string, asked: number) => ({ kind: null, origin, waitingFor: { reason: 'auth' as const, origin }, asked })

test('signOut says what becomes of the entries, and keeps them by itself', async () => {
  const done = { account: 'ada', delivered: 1, kept: 2, discarded: 0, possiblyApplied: [], finished: true }
  backend.on('sign_out', done)
  await expect(api.signOut()).resolves.toEqual(done)
  expect(JSON.stringify(backend.last('sign_out').args)).toBe('{}')
  await api.signOut({ pending: 'flush', timeout: 1500.2 })
  expect(backend.last('sign_out').args).toEqual({ pending: 'flush', timeoutMs: 1501 })
  await expect(api.signOut({ pending: 'flush', timeout: -1 })).rejects.toMatchObject({ code: 'invalid_argument' })
  expect(backend.count('sign_out')).toBe(2)
})

test('setAccount names the account', async () => {
  backend.on('set_account', null)
  await expect(api.setAccount('ada')).resolves.toBeUndefined()
  expect(backend.last('set_account').args).toEqual({ account: 'ada' })
})

test('resetEncryptedData passes the confirmation on, and nothing in its place', async () => {
  const done = { file: '/data/outbox.reset-1', givenUp: 3 }
  backend.on('reset_encrypted_data', done)
  await expect(api.resetEncryptedData({ confirm: api.CONFIRM_RESET })).resolves.toEqual(done)
  expect(backend.last('reset_encrypted_data').args).toEqual({ confirm: 'give up what is queued' })
  await api.resetEncryptedData(undefined as never)
  expect(JSON.stringify(backend.last('reset_encrypted_data').args)).toBe('{}')
})

test('onAuthRequired tells of what is so already, and once for each time that a server asks, until it is ended', async () => {
  const now = (...holds: Hold[]) => backend.on('status', statusOf({ holds }))
  now(hold('https://a.example', 1), { kind: 'form', origin: '', waitingFor: { reason: 'unproven' } })
  const run = vi.fn()
  const stop = await api.onAuthRequired(run)
  expect(run.mock.calls).toEqual([[{ origin: 'https://a.example' }]])
  now(hold('https://a.example', 2), hold('https://b.example', 3))
  await required()
  await required()
  expect(run.mock.calls.map(([{ origin }]) => origin)).toEqual(['https://a.example', 'https://a.example', 'https://b.example'])
  stop()
  stop()
  now(hold('https://c.example', 4))
  await required()
  expect(run).toHaveBeenCalledTimes(3)
  expect(backend.heard).toEqual([])
})

test('onAuthRequired tells once what comes while it asks for what is so already', async () => {
  const asked = gate()
  backend.on('status', async () => {
    await asked.promise
    return statusOf({ holds: [hold('https://a.example', 1), hold('https://b.example', 2)] })
  })
  const run = vi.fn()
  const started = api.onAuthRequired(run)
  await required()
  asked.open()
  await started
  expect(run.mock.calls.map(([{ origin }]) => origin)).toEqual(['https://a.example', 'https://b.example'])
})

test('onAuthRequired that cannot ask who it is reports it, and makes up for it the next time', async () => {
  const complaints = vi.spyOn(console, 'error').mockImplementation(() => {})
  backend.on('status', statusOf())
  const run = vi.fn()
  await api.onAuthRequired(run)
  backend.on('status', () => {
    throw { code: 'database', message: 'no' }
  })
  await required()
  expect(complaints).toHaveBeenCalledTimes(1)
  backend.on('status', statusOf({ holds: [hold('https://a.example', 1), hold('https://b.example', 2)] }))
  await required()
  expect(run.mock.calls.map(([{ origin }]) => origin)).toEqual(['https://a.example', 'https://b.example'])
})

test('onAuthRequired that was aborted meanwhile tells nothing and listens to nothing', async () => {
  const own = new AbortController()
  backend.on('status', () => {
    own.abort()
    return statusOf({ holds: [hold('https://a.example', 1)] })
  })
  const run = vi.fn()
  await api.onAuthRequired(run, { signal: own.signal })
  expect(run).not.toHaveBeenCalled()
  expect(backend.heard).toEqual([])
})
