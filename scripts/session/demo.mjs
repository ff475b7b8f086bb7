// The scripted demonstration: a draft, its photo and files are saved while the backend is down, and arrive when it is up; then the same
// listing is changed on two devices.
//
// usage: node demo.mjs APP BACKEND FOLDER    inside scripts/with-desktop

import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { freePort, start } from './processes.mjs'
import { Page, until } from './webdriver.mjs'

const [app, backend, folder] = process.argv.slice(2)
const data = join(folder, 'data')
const photo = join(import.meta.dirname, '../../examples/tauri-app/src-tauri/icons/icon.png')
const received = join(folder, 'received')
// Each run is a first start: the keychain of this desktop is a new one, too.
for (const path of [data, received]) {
  rmSync(path, { recursive: true, force: true })
  mkdirSync(path, { recursive: true })
}

const [port, driverPort, nativePort] = [await freePort(), await freePort(), await freePort()]
const url = `http://127.0.0.1:${port}`
const began = Date.now()

function tell(text) {
  console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(5)} s  ${text}`)
}

function picture(name) {
  const file = join(folder, `${name}.png`)
  execFileSync('import', ['-window', 'root', file])
  tell(`        picture: ${file}`)
}

/** Every chunk takes a moment, or the pictures would be too late. */
async function slowly(url) {
  const rule = { fault: { type: 'slow', ms: 700 }, scope: { kind: 'files', method: 'PATCH' } }
  const headers = { 'Content-Type': 'application/json' }
  const add = () => fetch(`${url}/__control/rules`, { method: 'POST', headers, body: JSON.stringify(rule) })
  await until('the backend to listen', async () => (await add()).ok)
}

async function badges(page) {
  const names = ['pending', 'inflight', 'acked', 'failed']
  const counts = await Promise.all(names.map(async (name) => `${name} ${await page.text(`badge-${name}`)}`))
  return counts.join(', ')
}

start('tauri-driver', ['--port', String(driverPort), '--native-port', String(nativePort)], {
  XDG_DATA_HOME: data,
  STORAGE_SYNC_EXAMPLE_BACKEND: url,
  RUST_LOG: 'warn',
})
const page = await Page.open(`http://127.0.0.1:${driverPort}`, app)
await page.shows('badge-pending', (text) => text === '0')
tell(`The app is open. Its backend at ${url} is down.`)

await page.type('field-title', 'Brass reading lamp')
await page.type('field-price', '45')
await page.type('field-description', 'From the fifties, rewired, with a new shade.')
await page.shows('saved', (text) => text.startsWith('Saved on this device'))
const why = await page.shows('row-why', (text) => text.startsWith('Cannot reach'))
tell(`A draft is typed. Badges: ${await badges(page)}.`)
tell(`Why it waits: "${why}".`)
await page.type('photo-file', photo)
tell(`A photo is added: "${await page.shows('row-why', (text) => text.startsWith('Waits until'))}".`)
picture('1-pending')

// What a user would drop on the window: a picture and a video, made by the page.
await page.run(`
  const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 480 })
  const pen = canvas.getContext('2d')
  const sky = pen.createLinearGradient(0, 0, 640, 480)
  sky.addColorStop(0, '#f6c667')
  sky.addColorStop(1, '#b1552f')
  pen.fillStyle = sky
  pen.fillRect(0, 0, 640, 480)
  pen.fillStyle = '#3a2618'
  pen.fillRect(300, 190, 40, 230)
  pen.beginPath()
  pen.moveTo(220, 200)
  pen.lineTo(420, 200)
  pen.lineTo(370, 90)
  pen.lineTo(270, 90)
  pen.fill()
  canvas.toBlob(blob => {
    const video = new Uint8Array(24 << 20)
    for (let at = 0; at < video.length; at += 65536) crypto.getRandomValues(video.subarray(at, at + 65536))
    const chosen = new DataTransfer()
    chosen.items.add(new File([blob], 'Brass lamp.png', { type: 'image/png' }))
    chosen.items.add(new File([video], 'All around the lamp.mp4', { type: 'video/mp4' }))
    const picker = document.querySelector('[data-testid=file-picker]')
    picker.files = chosen.files
    picker.dispatchEvent(new Event('change'))
  })`)
await page.shows('badge-pending', (text) => text === '4')
await page.shows('file-state', (text) => text.startsWith('Saved on this device ·'))
tell(`A picture and a video of 24 MiB are dropped. Badges: ${await badges(page)}.`)
await page.scrollTo('file-list')
picture('2-files')

start(backend, ['--port', String(port), '--folder', received, '--compare-revisions'])
tell('The backend is started. Nothing is clicked.')
await slowly(url)
await page.shows('file-state', (text) => text.includes(' sent'))
tell(`The upload: "${await page.text('file-state')}".`)
picture('3-uploading')
await fetch(`${url}/__control/clear`, { method: 'POST' })
await page.shows('badge-acked', (text) => text === '4')
tell(`Badges: ${await badges(page)}. "${await page.text('row-why')}".`)
picture('4-delivered')

const listings = await until('the backend to answer', async () => (await fetch(`${url}/listings`)).json())
tell(`The backend holds: ${JSON.stringify(listings)}`)

await page.click('edit-elsewhere')
await page.shows('toasts', (text) => text.includes('Changed on another device'))
tell('The listing is changed on another device.')
await page.type('field-title', ', with a dimmer')
await page.shows('conflict-keep-mine', (text) => text === 'Keep mine')
tell(`Here it says "${await page.text('conflict-mine-title')}", there "${await page.text('conflict-theirs-title')}".`)
picture('5-conflict')
await page.click('conflict-keep-mine')
await page.shows('saved', (text) => text === 'Saved on this device and on the server')
tell('"Keep mine" is pressed, and the server has it.')
picture('6-decided')
process.exit(0)
