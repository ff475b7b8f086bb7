// Starts a fresh app and the backend, and waits until what the page enqueued is there.
//
// usage: node deliver.mjs APP BACKEND PORT    inside scripts/with-desktop

import { start } from '../session/processes.mjs'
import { until } from '../session/webdriver.mjs'

const [app, backend, port] = process.argv.slice(2)

for (const child of [start(backend, ['--port', port]), start(app, [])]) {
  child.on('exit', (code, signal) => {
    console.error(`${child.spawnfile} ended by itself: ${signal ?? code}`)
    process.exit(1)
  })
}

const note = await until('the note to arrive', async () => {
  const answer = await fetch(`http://127.0.0.1:${port}/notes/first`)
  return answer.ok && answer.json()
})
if (note.text !== 'from a fresh app') throw new Error(`Something else arrived: ${JSON.stringify(note)}`)
console.log(`Delivered: ${JSON.stringify(note)}`)
process.exit(0)
