// Adds the plugin to a fresh app: the permission and the registration, as `tauri add` writes them, then what its author
// writes: an endpoint, and a page that saves something.
//
// usage: node add.mjs APP BASE_URL

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const [app, baseUrl] = process.argv.slice(2)

/** Rewrites a file of the app, and stops when there was nothing to rewrite: the template has changed then. */
function rewrite(path, change) {
  const file = join(app, path)
  const before = readFileSync(file, 'utf8')
  const after = change(before)
  if (after === before) throw new Error(`${path} does not look as expected`)
  writeFileSync(file, after)
}

function rewriteJson(path, change) {
  rewrite(path, (text) => {
    const value = JSON.parse(text)
    change(value)
    return `${JSON.stringify(value, null, 2)}\n`
  })
}

rewriteJson('src-tauri/capabilities/default.json', (capability) => {
  capability.permissions.push('storage-sync:default')
})
rewrite('src-tauri/src/lib.rs', (text) =>
  text.replace(
    'tauri::Builder::default()',
    'tauri::Builder::default()\n        .plugin(tauri_plugin_storage_sync::init())',
  ),
)

rewriteJson('src-tauri/tauri.conf.json', (config) => {
  config.plugins = {
    'storage-sync': { baseUrl, endpoints: { note: { method: 'PUT', url: '/notes/{key}' } } },
  }
})
appendFileSync(
  join(app, 'src/main.ts'),
  `
import { enqueue } from "tauri-plugin-storage-sync-api";

enqueue("note", { text: "from a fresh app" }, { key: "first" }).catch((error) => {
  document.body.textContent = \`enqueue failed: \${JSON.stringify(error)}\`;
});
`,
)
