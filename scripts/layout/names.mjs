// Documents name the tests that hold a promise. A name that no test has holds nothing.

import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

const FOLDERS = ['src', 'tests', 'guest-js', 'examples', 'benches', 'scripts', 'docs']
/** A test of Rust is a sentence; shorter names are something else. */
const SENTENCE = /^[a-z0-9]+(?:_[a-z0-9]+){3,}$/
/** A test of TypeScript is one in words. */
const WORDS = /^[a-z][\w,']*(?: [\w,']+){4,}$/
/** A name in backticks, or the path of something here. */
const MENTION = new RegExp(`\`([^\`\\n]+)\`|(?:${FOLDERS.join('|')})/[\\w./-]*\\w`, 'g')

/**
 * What a document names and nobody has.
 * @param {string} root the folder of the repository
 * @param {string[]} documents paths below it
 * @returns {string[]} one line each, empty when all is well
 */
export function missing(root, documents) {
  const tests = new Set()
  for (const file of filesOf(root, FOLDERS.map((folder) => join(root, folder)), '.rs')) {
    for (const [, name] of readFileSync(file, 'utf8').matchAll(/\bfn ([a-z0-9_]+)\s*\(/g)) tests.add(name)
  }
  return documents.flatMap((document) =>
    readFileSync(join(root, document), 'utf8')
      .split(/\n(?=- |\n)/)
      .flatMap((block) => wrongIn(block, root, tests).map((wrong) => `${document}: ${wrong}`)),
  )
}

/** Names that stand before a path are in that file or folder. */
function wrongIn(block, root, tests) {
  const wrong = []
  let waiting = []
  for (const { 0: mention, 1: quoted, index } of block.matchAll(MENTION)) {
    if (quoted !== undefined) {
      const isTest = SENTENCE.test(quoted)
      if (isTest && !tests.has(quoted)) wrong.push(`there is no test ${quoted}`)
      else if (isTest || WORDS.test(quoted)) waiting.push(quoted)
      continue
    }
    if (!existsSync(join(root, mention))) wrong.push(`there is no ${mention}`)
    else if (block[index - 1] === '(') {
      const text = textOf(root, join(root, mention))
      wrong.push(...waiting.filter((name) => !text.includes(name)).map((name) => `${mention} has no test ${name}`))
    }
    waiting = []
  }
  return wrong
}

function textOf(root, path) {
  const files = statSync(path).isDirectory() ? filesOf(root, [path], '') : [path]
  return files.map((file) => readFileSync(file, 'utf8')).join('\n')
}

function filesOf(root, folders, end) {
  return folders
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder, { withFileTypes: true, recursive: true }))
    .filter((entry) => entry.isFile() && entry.name.endsWith(end))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter((file) => !/node_modules|target|dist/.test(file.slice(root.length)))
}
