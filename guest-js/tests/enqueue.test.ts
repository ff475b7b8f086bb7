import { Blob, File } from 'node:buffer' // jsdom's cannot be read

import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { enqueue, StorageSyncError, type Payload } from '../index.js'
import { Backend, gate } from './backend.js'

const receipt = { id: '0193f6a0-0000-7000-8000-000000000001', kind: 'form', key: null }
let backend: Backend

beforeEach(() => {
  backend = new Backend().on('enqueue', receipt)
})
afterEach(() => backend.close())

async function refusal(payload: unknown, options = {}): Promise<string> {
  const thrown = await enqueue('form', payload as Payload, options).then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(thrown).toBeInstanceOf(StorageSyncError)
  expect((thrown as StorageSyncError).code).toBe('invalid_argument')
  expect(backend.count('enqueue')).toBe(0)
  return (thrown as StorageSyncError).message
}

describe('JSON', () => {
  test('a value goes as an argument and the receipt comes back', async () => {
    const draft = { title: 'Lamp', price: 12.5, tags: ['a', null, true], at: new Date(0) }
    await expect(enqueue('form', draft, { key: 'listing/42', queue: 'latest' })).resolves.toEqual(receipt)
    expect(backend.last('enqueue')).toEqual({
      command: 'enqueue',
      args: {
        kind: 'form',
        payload: { title: 'Lamp', price: 12.5, tags: ['a', null, true], at: '1970-01-01T00:00:00.000Z' },
        options: { key: 'listing/42', queue: 'latest' },
      },
      headers: {},
    })
  })

  test.each([null, '', 0, false, [], {}])('%j alone is a payload', async value => {
    await enqueue('form', value)
    expect(backend.last('enqueue').args).toMatchObject({ payload: value })
  })

  test('options without a value are left out and params keep their types', async () => {
    await enqueue('form', 1, { key: undefined, params: { a: 'x', b: 2, c: true } })
    expect(backend.last('enqueue').args).toMatchObject({ options: { params: { a: 'x', b: 2, c: true } } })
    expect((backend.last('enqueue').args as { options: object }).options).not.toHaveProperty('key')
  })

  test('what the caller changes afterwards changes nothing', async () => {
    const draft = { title: 'first', nested: { n: 1 } }
    const [one, two] = [enqueue('form', draft, { key: 'k' }), enqueue('form', draft, { key: 'k' })]
    draft.title = 'later'
    draft.nested.n = 2
    await Promise.all([one, two])
    expect(backend.calls.map(call => (call.args as { payload: object }).payload)).toEqual([
      { title: 'first', nested: { n: 1 } },
      { title: 'first', nested: { n: 1 } },
    ])
  })

  test('a class with data and an object without a prototype are taken like plain objects', async () => {
    class Listing {
      title = 'Lamp'
    }
    await enqueue('form', [new Listing(), Object.assign(Object.create(null), { a: 1 })])
    expect(backend.last('enqueue').args).toMatchObject({ payload: [{ title: 'Lamp' }, { a: 1 }] })
  })

  test('the same object twice is no cycle, and a key named __proto__ stays a key', async () => {
    const shared = { a: 1 }
    await enqueue('form', [shared, shared, JSON.parse('{"__proto__":{"b":2}}')])
    const { payload } = backend.last('enqueue').args as { payload: unknown }
    expect(JSON.stringify(payload)).toBe('[{"a":1},{"a":1},{"__proto__":{"b":2}}]')
  })

  const cyclic: Record<string, unknown> = { a: {} }
  cyclic['a'] = { up: cyclic }
  const deep = Array.from({ length: 101 }).reduce<unknown>(inner => [inner], 1)
  test.each<[string, unknown, string]>([
    ['undefined', undefined, 'payload is undefined'],
    ['a property that is undefined', { price: undefined }, 'payload.price is undefined'],
    ['a hole in an array', { list: [1, , 3] }, 'payload.list[1] is undefined'],
    ['a function', { 'on save': () => {} }, 'payload["on save"] is a function'],
    ['a symbol', [Symbol('s')], 'payload[0] is a symbol'],
    ['a symbol as a key', { a: { [Symbol('s')]: 1 } }, 'payload.a is an object with a symbol as a key'],
    ['a BigInt', { a: [{ b: 1n }] }, 'payload.a[0].b is a BigInt'],
    ['NaN', { a: NaN }, 'payload.a is NaN'],
    ['an infinity', [-Infinity], 'payload[0] is -Infinity'],
    ['a Map', { m: new Map() }, 'payload.m is a Map'],
    ['a Set', new Set(), 'payload is a Set'],
    ['a RegExp', /x/, 'payload is a RegExp'],
    ['an Error', new Error('x'), 'payload is an Error'],
    ['a promise', { p: Promise.resolve() }, 'payload.p is a Promise'],
    ['bytes inside JSON', { photo: new Uint8Array(1) }, 'payload.photo is a Uint8Array'],
    ['numbers wider than a byte', new Float64Array(1), 'payload is a Float64Array'],
    ['an invalid date', { at: new Date(NaN) }, 'payload.at is an invalid Date'],
    ['a cycle', cyclic, 'payload.a.up is a reference to what contains it'],
    ['half a character', { name: '\ud83d' }, 'payload.name is text with half a surrogate pair'],
    ['half a character as a key', { '\udc00': 1 }, 'is under a key with half a surrogate pair'],
    ['101 levels', deep, 'is nested more than 100 levels deep'],
    ['what toJSON answers', { a: { toJSON: () => undefined } }, 'payload.a is undefined'],
  ])('%s is refused with its path before anything is sent', async (_, value, message) => {
    expect(await refusal(value)).toContain(message)
  })

  test('100 levels and a whole character outside the basic plane are taken', async () => {
    await enqueue('form', ['😀', Array.from({ length: 99 }).reduce<unknown>(inner => [inner], 1)])
    expect(backend.count('enqueue')).toBe(1)
  })

  test('a refusal never shows the value', async () => {
    expect(await refusal({ secret: 'hunter2\ud800' })).not.toContain('hunter2')
  })

  test('params that JSON cannot hold, a kind that is no text, and a media type for JSON are refused', async () => {
    expect(await refusal(1, { params: { n: NaN } })).toContain('options.params.n is NaN')
    expect(await refusal(1, { contentType: 'text/plain' })).toContain('options.contentType')
    await expect(enqueue(undefined as unknown as string, 1)).rejects.toMatchObject({ code: 'invalid_argument' })
  })
})

describe('bytes', () => {
  const bytes = Uint8Array.of(0, 255, 10)
  test.each<[string, Payload, string]>([
    ['a Uint8Array', bytes, 'application/octet-stream'],
    ['a view on a larger buffer', Uint8Array.of(9, 0, 255, 10, 9).subarray(1, 4), 'application/octet-stream'],
    ['an ArrayBuffer', bytes.slice().buffer, 'application/octet-stream'],
    ['a Blob', new Blob([bytes], { type: 'image/png' }), 'image/png'],
    ['a File', new File([bytes], 'secret name.png', { type: 'image/png' }), 'image/png'],
  ])('%s goes as a raw body', async (_, payload, type) => {
    await enqueue('photo', payload, { params: { listing: 'a/ü' } })
    const { args, headers } = backend.last('enqueue')
    expect(ArrayBuffer.isView(args)).toBe(true)
    expect([...(args as Uint8Array)]).toEqual([0, 255, 10])
    expect(headers).toEqual({
      'x-kind': 'photo',
      'x-options': encodeURIComponent('{"params":{"listing":"a/ü"}}'),
      'x-content-type': type,
    })
  })

  test('nothing at all is a payload too', async () => {
    await enqueue('photo', new Uint8Array(0))
    expect((backend.last('enqueue').args as Uint8Array).byteLength).toBe(0)
  })

  test('the media type can be given, and one that is none is refused', async () => {
    await enqueue('photo', new Blob([bytes], { type: 'image/png' }), { contentType: 'image/webp' })
    expect(backend.last('enqueue').headers).toMatchObject({ 'x-content-type': 'image/webp', 'x-options': '%7B%7D' })
    for (const contentType of ['', 'png', 'image/ü', 'a/b\r\nx-kind: other']) {
      await expect(enqueue('photo', bytes, { contentType })).rejects.toMatchObject({ code: 'invalid_argument' })
    }
    expect(backend.count('enqueue')).toBe(1)
  })

  test('what the caller writes into its buffer afterwards changes nothing', async () => {
    const buffer = Uint8Array.of(1, 2)
    const sent = enqueue('photo', buffer)
    buffer.fill(9)
    await sent
    expect([...(backend.last('enqueue').args as Uint8Array)]).toEqual([1, 2])
  })

  test('a blob that cannot be read is refused', async () => {
    const blob = new Blob([bytes])
    blob.arrayBuffer = () => Promise.reject(new Error('the file is gone'))
    await expect(enqueue('photo', blob)).rejects.toMatchObject({
      code: 'invalid_argument',
      message: 'payload cannot be read: the file is gone',
    })
  })
})

describe('order', () => {
  test('within a lane a call waits for the one before, and a failure does not stop the next', async () => {
    const first = gate()
    backend.on('enqueue', async ({ payload }: { payload: number }) => {
      if (payload === 1) await first.promise
      return receipt
    })
    const sent = [1, 2, 3].map(n => enqueue('form', n, { key: 'a' }))
    await enqueue('form', 10, { key: 'b' })
    await enqueue('form', 11)
    const payloads = () => backend.calls.map(call => (call.args as { payload: number }).payload)
    expect(payloads()).toEqual([1, 10, 11])
    first.fail({ code: 'disk_full', message: 'full' })
    const [one, two, three] = await Promise.allSettled(sent)
    expect(one).toMatchObject({ status: 'rejected', reason: { code: 'disk_full' } })
    expect([two?.status, three?.status]).toEqual(['fulfilled', 'fulfilled'])
    expect(payloads()).toEqual([1, 10, 11, 2, 3])
  })

  test('bytes that must be read first keep their place in the lane', async () => {
    const read = gate<ArrayBuffer>()
    const blob = new Blob(['x'])
    blob.arrayBuffer = () => read.promise
    const sent = [enqueue('form', blob, { key: 'a' }), enqueue('form', 2, { key: 'a' })]
    await Promise.resolve()
    expect(backend.calls).toEqual([])
    read.open(new ArrayBuffer(1))
    await Promise.all(sent)
    expect(backend.calls.map(call => ArrayBuffer.isView(call.args))).toEqual([true, false])
  })
})
