import { afterEach, beforeEach, expect, test } from 'vitest'

import * as api from '../index.js'
import { ERROR_CODES, toError } from '../errors.js'
import { Backend } from './backend.js'

let backend: Backend

beforeEach(() => {
  backend = new Backend()
})
afterEach(() => backend.close())

const verbs: Record<string, () => Promise<unknown>> = {
  delivered: () => api.delivered('id'),
  discard: () => api.discard('all'),
  enqueue: () => api.enqueue('form', 1),
  flush: () => api.flush(),
  get: () => api.get('id'),
  list: () => api.list(),
  pause: () => api.pause(),
  payload: () => api.payload('id'),
  resume: () => api.resume(),
  retry: () => api.retry({}),
  rotate_key: () => api.rotateKey(),
  set_credentials: () => api.setCredentials({ headers: {} }),
  status: () => api.status(),
}

test.each(Object.entries(verbs))('%s rejects with what the backend says', async (command, verb) => {
  backend.on(command, () => {
    throw { code: 'closed', message: 'the app is shutting down' }
  })
  const thrown = await verb().catch((error: unknown) => error)
  expect(thrown).toBeInstanceOf(api.StorageSyncError)
  expect(thrown).toBeInstanceOf(Error)
  expect(thrown).toMatchObject({ name: 'StorageSyncError', code: 'closed', message: 'the app is shutting down' })
})

test.each(ERROR_CODES)('%s keeps its code', code => {
  expect(toError({ code, message: 'm' })).toMatchObject({ code, message: 'm' })
})

test('what Tauri itself refuses has a code too', async () => {
  await expect(api.pause()).rejects.toMatchObject({
    code: 'ipc',
    message: 'the call did not reach the plugin: Command pause not found',
  })
  expect(toError('invalid args `kind` for command `enqueue`: …')).toMatchObject({ code: 'invalid_argument' })
  expect(toError(new TypeError('boom'))).toMatchObject({ code: 'ipc', cause: expect.any(TypeError) })
  expect(toError(undefined)).toMatchObject({ code: 'ipc' })
})

test('an error of ours is passed on as it is', () => {
  const error = new api.StorageSyncError('timeout', 'm')
  expect(toError(error)).toBe(error)
})
