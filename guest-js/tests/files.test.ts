import * as node from 'node:buffer' // jsdom's blobs cannot be read

import { afterEach, beforeEach, expect, test } from 'vitest'

import { enqueueFile, file, type FileOptions } from '../index.js'
import { Backend, gate } from './backend.js'

const RECEIPT = { id: '0193f6a0-0000-7000-8000-000000000001', kind: 'photo', key: null }
const PIECE = 4
const { Blob, File } = node as unknown as Pick<typeof globalThis, 'Blob' | 'File'>

let backend: Backend
/** What the backend has, by transfer. */
let received: Map<string, number[]>

beforeEach(() => {
  backend = new Backend()
  received = new Map()
  backend.on('enqueue_file', (args: unknown, headers: Record<string, string>) => answer(args, headers))
})

afterEach(() => backend.close())

function answer(args: unknown, headers: Record<string, string>): unknown {
  if (args instanceof Uint8Array) {
    const all = received.get(headers['x-transfer']!)!
    expect(Number(headers['x-offset'])).toBe(all.length)
    all.push(...args)
    return { offset: all.length }
  }
  const { bytes, transfer, finish, abort, path } = args as Record<string, unknown>
  if (path !== undefined) return RECEIPT
  if (bytes !== undefined) {
    const id = `t${received.size}`
    received.set(id, [])
    return { transfer: id, piece: PIECE }
  }
  if (finish) return RECEIPT
  if (abort) return null
  return { offset: received.get(transfer as string)!.length }
}

const commands = () => backend.calls.map(({ args }) => (args instanceof Uint8Array ? args.length : Object.keys(args).join()))

test('a blob is handed over in pieces, in order, and never as a whole', async () => {
  const bytes = Array.from({ length: 10 }, (_, at) => at * 25)
  const picture = new File([new Uint8Array(bytes)], 'ä b.png', { type: 'image/png' })
  const seen: unknown[] = []
  const onProgress: FileOptions['onProgress'] = saved => seen.push(saved)
  expect(await enqueueFile('photo', picture, { params: { listing: '42' }, onProgress })).toEqual(RECEIPT)
  expect(commands()).toEqual(['kind,bytes,options', 4, 4, 2, 'transfer,finish'])
  expect(backend.calls[0]!.args).toEqual({
    kind: 'photo',
    bytes: 10,
    options: { params: { listing: '42' }, contentType: 'image/png', name: 'ä b.png' },
  })
  expect(received.get('t0')).toEqual(bytes)
  expect(seen).toEqual([4, 8, 10].map(bytes => ({ bytes, total: 10 })))
})

test('a blob without a name or type has none, and what is said goes before what it has', async () => {
  await enqueueFile('photo', new Blob([]))
  expect(backend.calls[0]!.args).toEqual({ kind: 'photo', bytes: 0, options: { contentType: 'application/octet-stream' } })
  expect(commands()).toEqual(['kind,bytes,options', 'transfer,finish'])
  const letter = new File(['x'], 'a.txt', { type: 'text/plain' })
  await enqueueFile('photo', letter, { name: 'b.md', contentType: 'text/markdown', after: [RECEIPT], metadata: { title: 'B' } })
  expect(backend.calls[2]!.args).toMatchObject({
    options: { name: 'b.md', contentType: 'text/markdown', after: [RECEIPT.id], metadata: { title: 'B' } },
  })
})

test('a path is left to the backend', async () => {
  expect(await enqueueFile('photo', '/home/ann/a.png', { key: '1', name: 'b.png' })).toEqual(RECEIPT)
  expect(backend.calls.map(({ args }) => args)).toEqual([{ kind: 'photo', path: '/home/ann/a.png', options: { key: '1', name: 'b.png' } }])
})

test('a piece whose answer was lost is not handed over twice, and one that was lost is', async () => {
  let fail: 'before' | 'after' | undefined = 'after'
  backend.on('enqueue_file', (args: unknown, headers: Record<string, string>) => {
    const failing = args instanceof Uint8Array ? fail : undefined
    if (failing) fail = failing === 'after' ? 'before' : undefined
    if (failing === 'before') throw 'the call was lost'
    const said = answer(args, headers)
    if (failing === 'after') throw 'the answer was lost'
    return said
  })
  await enqueueFile('photo', new Blob(['0123456789']))
  expect(received.get('t0')).toEqual([...new TextEncoder().encode('0123456789')])
})

test('what the backend refuses is the error, and nothing is left there', async () => {
  backend.on('enqueue_file', (args: unknown, headers: Record<string, string>) => {
    if (args instanceof Uint8Array && headers['x-offset'] === '4') throw { code: 'quota_reached', message: 'full' }
    return answer(args, headers)
  })
  await expect(enqueueFile('photo', new Blob(['0123456789']))).rejects.toMatchObject({ code: 'quota_reached' })
  expect(commands()).toEqual(['kind,bytes,options', 4, 4, 'transfer,abort'])
})

test('a call that never gets through is given up', async () => {
  backend.on('enqueue_file', (args: unknown, headers: Record<string, string>) => {
    if (args instanceof Uint8Array) throw 'no way'
    return answer(args, headers)
  })
  await expect(enqueueFile('photo', new Blob(['0123456789']))).rejects.toMatchObject({ code: 'ipc' })
  expect(commands().at(-1)).toBe('transfer,abort')
})

test('a signal gives it up at any time before it is saved', async () => {
  const before = new AbortController()
  before.abort(new Error('no more'))
  for (const source of [new Blob(['x']), '/a']) {
    const error = await enqueueFile('photo', source, { signal: before.signal }).catch(thrown => thrown)
    expect(error).toMatchObject({ code: 'aborted', cause: { message: 'no more' } })
  }
  expect(backend.calls).toEqual([])
  const meanwhile = new AbortController()
  const onProgress = () => meanwhile.abort()
  const error = await enqueueFile('photo', new Blob(['0123456789']), { signal: meanwhile.signal, onProgress }).catch(thrown => thrown)
  expect(error).toMatchObject({ code: 'aborted' })
  expect(commands()).toEqual(['kind,bytes,options', 4, 'transfer,abort'])
})

test('a copy of a path is given up while the backend makes it, and too late once it is saved', async () => {
  const copying = gate()
  const begun = gate()
  backend.on('enqueue_file', async ({ path, transfer, abort }: { path?: string; transfer?: string; abort?: boolean }) => {
    if (path === undefined) {
      expect([transfer, abort]).toEqual([expect.any(String), true])
      if (transfer === (backend.calls[0]!.args as { transfer: string }).transfer) {
        copying.fail({ code: 'aborted', message: 'it was given up' })
        return null
      }
      throw { code: 'io', message: 'the second cannot be given up' }
    }
    if (path === '/first') {
      begun.open()
      await copying.promise
    }
    if (path === '/second') late.abort()
    return RECEIPT
  })
  const stop = new AbortController()
  const late = new AbortController()
  const first = enqueueFile('photo', '/first', { signal: stop.signal }).catch(thrown => thrown)
  await begun.promise
  stop.abort(new Error('no more'))
  expect(await first).toMatchObject({ code: 'aborted', cause: { message: 'no more' } })
  expect(commands()).toEqual(['kind,path,options,transfer', 'transfer,abort'])

  expect(await enqueueFile('photo', '/second', { signal: late.signal })).toEqual(RECEIPT)
  // Once it is over nobody listens to the signal any more.
  const over = new AbortController()
  await enqueueFile('photo', '/third', { signal: over.signal })
  const calls = backend.calls.length
  over.abort()
  expect(backend.calls.length).toBe(calls)
  expect(await enqueueFile('photo', '/fourth')).toEqual(RECEIPT)
  expect(commands().at(-1)).toBe('kind,path,options')
})

test('of very many files only a few are handed over at once', async () => {
  const held = gate()
  let open = 0
  let highest = 0
  backend.on('enqueue_file', async (args: unknown, headers: Record<string, string>) => {
    if (!(args instanceof Uint8Array) && 'bytes' in (args as object)) highest = Math.max(highest, ++open)
    if (!(args instanceof Uint8Array) && 'finish' in (args as object)) {
      await held.promise
      open--
    }
    return answer(args, headers)
  })
  const all = Array.from({ length: 20 }, () => enqueueFile('photo', new Blob(['x'])))
  await Promise.resolve()
  held.open()
  await Promise.all(all)
  expect(highest).toBe(4)
  // A file that fails gives its place back.
  await expect(enqueueFile('photo', new Blob(['x']), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'aborted' })
  await enqueueFile('photo', new Blob(['x']))
})

test('files of one lane are saved in the order of the calls', async () => {
  const first = gate()
  backend.on('enqueue_file', async (args: unknown, headers: Record<string, string>) => {
    if (!(args instanceof Uint8Array) && 'finish' in (args as object) && received.size === 1) await first.promise
    return answer(args, headers)
  })
  const one = enqueueFile('photo', new Blob(['1']), { key: 'k' })
  const two = enqueueFile('photo', '/two', { key: 'k' })
  const other = enqueueFile('photo', '/other', { key: 'l' })
  await other
  expect(backend.calls.some(({ args }) => (args as { path?: string }).path === '/two')).toBe(false)
  first.open()
  await Promise.all([one, two])
})

test('what a file is called is asked by its receipt or its id', async () => {
  const info = { name: 'a.png', contentType: 'image/png', bytes: 1, sha256: '00', metadata: {} }
  backend.on('file', info)
  expect(await file(RECEIPT)).toEqual(info)
  expect(backend.last('file').args).toEqual({ id: RECEIPT.id })
  await expect(file('x')).rejects.toMatchObject({ code: 'invalid_argument' })
})

test('what is no file is refused', async () => {
  for (const wrong of [undefined, null, 5, {}, ['a'], new Uint8Array(1), new ArrayBuffer(1)]) {
    await expect(enqueueFile('photo', wrong as never)).rejects.toMatchObject({ code: 'invalid_argument' })
  }
  await expect(enqueueFile(5 as never, '/a')).rejects.toMatchObject({ code: 'invalid_argument' })
  await expect(enqueueFile('photo', '/a', { contentType: 'ä' })).rejects.toMatchObject({ code: 'invalid_argument' })
  expect(backend.calls).toEqual([])
})
