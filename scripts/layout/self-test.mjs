// Proves that the checker catches what it is there for, on small trees made for it, and lets the rest pass.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { breaches } from './check.mjs'
import { missing } from './names.mjs'
import { rules } from './rules.mjs'

const clean = {
  'lib.rs': 'mod error;\nmod entry;\nmod store;\nmod outbox;\nmod engine;\nmod commands;\nuse tauri::Runtime;',
  'error.rs': 'pub enum Error {}',
  'entry.rs': 'use crate::error::Error;',
  'store/mod.rs': 'mod rows;\nuse crate::{entry::Entry, error::{Error, Result}};\nuse sqlx::Row;',
  'store/rows.rs': 'use super::Store;\nuse super::super::error::Error;',
  'outbox.rs': '#[cfg(test)]\nmod tests { use crate::engine::Engine; }\nuse crate::store::Store;',
  'engine.rs': '// crate::outbox and tauri:: in a comment\nconst S: &str = "crate::outbox";\nuse crate::store::Store;',
  'commands.rs': 'use tauri::command;\nuse crate::outbox::Outbox;',
}

const cases = [
  { name: 'a clean tree', files: {}, caught: [] },
  {
    name: 'a plain import',
    files: { 'outbox.rs': 'use crate::engine::Engine;' },
    caught: ['outbox.rs:1: outbox may not use engine'],
  },
  {
    name: 'a branch of a nested group, on its line',
    files: { 'engine.rs': 'use crate::{\n  store::{Store, Writer},\n  outbox::Outbox,\n};' },
    caught: ['engine.rs:3: engine may not use outbox'],
  },
  {
    name: 'a path in the middle of code',
    files: { 'store/mod.rs': 'fn f() -> u8 { crate::outbox::limit() }' },
    caught: ['store/mod.rs:1: store may not use outbox'],
  },
  {
    name: 'a way up through super',
    files: { 'store/rows.rs': 'use super::super::engine::Engine;' },
    caught: ['store/rows.rs:1: store may not use engine'],
  },
  {
    name: 'a way up through super from an inline module',
    files: { 'engine.rs': 'mod inner { use super::super::outbox::Outbox; use super::Engine; }' },
    caught: ['engine.rs:1: engine may not use outbox'],
  },
  {
    name: 'a re-export of the root',
    files: { 'store/mod.rs': 'use crate::Error;' },
    caught: ['store/mod.rs:1: crate::Error is no module: name it where it is defined'],
  },
  {
    name: 'tauri where it does not belong',
    files: { 'engine.rs': 'fn f<R: tauri::Runtime>() {}' },
    caught: ['engine.rs:1: engine may not name the crate tauri'],
  },
  {
    name: 'tauri as a whole, and by its absolute path',
    files: { 'engine.rs': 'use tauri;\nuse ::tauri::App;' },
    caught: ['engine.rs:1: engine may not name the crate tauri', 'engine.rs:2: engine may not name the crate tauri'],
  },
  {
    name: 'SQL outside the store',
    files: { 'outbox.rs': 'fn f() { sqlx::query("") }' },
    caught: ['outbox.rs:1: outbox may not name the crate sqlx'],
  },
  {
    name: 'a module that nobody thought about',
    files: { 'helpers.rs': '' },
    caught: ['helpers: has no row in scripts/layout/rules.mjs'],
  },
  {
    name: 'code after strings, characters, lifetimes and comments of all sorts',
    files: {
      'engine.rs':
        `/* /* nested */ crate::outbox */ fn f<'a>(c: char) -> &'a str { match c { '"' => r#"crate::outbox "quoted""#, _ => "\\"" } }\nuse crate::outbox::Outbox;`,
    },
    caught: ['engine.rs:2: engine may not use outbox'],
  },
  {
    name: 'code after a test module',
    files: { 'outbox.rs': '#[cfg(test)]\nmod tests { fn f() { {} } }\nfn g() { crate::engine::go() }' },
    caught: ['outbox.rs:3: outbox may not use engine'],
  },
]

const documents = [
  { text: '- `a_test_that_is_there` (tests/a.rs)', caught: [] },
  { text: '- `a_test_that_is_gone` (tests/a.rs)', caught: ['there is no test a_test_that_is_gone'] },
  { text: '- `a_test_that_is_there` (tests/b.rs)', caught: ['tests/b.rs has no test a_test_that_is_there'] },
  { text: '- `what it does in so many words` (tests/b.rs)', caught: ['tests/b.rs has no test what it does in so many words'] },
  { text: 'more in tests/gone.rs.', caught: ['there is no tests/gone.rs'] },
]

/** @returns {string[]} what the checker of documents got wrong */
function wrongOfDocuments() {
  const root = mkdtempSync(join(tmpdir(), 'names-'))
  try {
    mkdirSync(join(root, 'tests'))
    writeFileSync(join(root, 'tests/a.rs'), 'fn a_test_that_is_there() {}')
    writeFileSync(join(root, 'tests/b.rs'), '')
    return documents.flatMap(({ text, caught }) => {
      writeFileSync(join(root, 'doc.md'), text)
      const found = missing(root, ['doc.md'])
      const expected = caught.map((line) => `doc.md: ${line}`)
      return JSON.stringify(found) === JSON.stringify(expected) ? [] : [`${text}: expected ${expected}, found ${found}`]
    })
  } finally {
    rmSync(root, { recursive: true })
  }
}

/** @returns {string[]} what the checker got wrong */
export function selfTest() {
  const wrong = wrongOfDocuments()
  for (const { name, files, caught } of cases) {
    const src = mkdtempSync(join(tmpdir(), 'layout-'))
    try {
      for (const [path, text] of Object.entries({ ...clean, ...files })) {
        mkdirSync(dirname(join(src, path)), { recursive: true })
        writeFileSync(join(src, path), text)
      }
      const found = breaches(src, rules)
      if (JSON.stringify(found) !== JSON.stringify(caught)) {
        wrong.push(`${name}: expected ${JSON.stringify(caught)}, found ${JSON.stringify(found)}`)
      }
    } finally {
      rmSync(src, { recursive: true })
    }
  }
  return wrong
}

/** How many trees and documents the self-test looks at. */
export const trees = cases.length + documents.length
