// Reads Rust sources far enough to tell which modules and crates a module names.

import { readFileSync, readdirSync } from 'node:fs'
import { join, relative, sep } from 'node:path'

/**
 * Every breach of the rules in a tree.
 * @param {string} src the folder that holds lib.rs
 * @param {{ modules: Record<string, string[] | '*'>, crates: Record<string, string[]> }} rules
 * @returns {string[]} one line each, empty when all is well
 */
export function breaches(src, rules) {
  const files = sources(src)
  const modules = new Set(files.map((file) => moduleOf(src, file)))
  const found = []
  for (const name of modules) {
    if (!Object.hasOwn(rules.modules, name)) found.push(`${name}: has no row in scripts/layout/rules.mjs`)
  }
  for (const file of files) {
    const name = moduleOf(src, file)
    const may = rules.modules[name] ?? '*'
    const tokens = withoutTests(tokenize(readFileSync(file, 'utf8')))
    const say = (line, what) => found.push(`${relative(src, file)}:${line}: ${what}`)

    for (const { path, line } of localPaths(tokens, depth(src, file))) {
      if (path === name || may === '*') continue
      if (!modules.has(path)) say(line, `crate::${path} is no module: name it where it is defined`)
      else if (!may.includes(path)) say(line, `${name} may not use ${path}`)
    }
    for (const { path, line } of cratePaths(tokens)) {
      const owners = Object.hasOwn(rules.crates, path) ? rules.crates[path] : undefined
      if (owners && !owners.includes(name)) say(line, `${name} may not name the crate ${path}`)
    }
  }
  return found
}

/** Files whose code ships: unit tests in files of their own are left out, as those in `mod tests` are. */
function sources(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return entry.name === 'tests' ? [] : sources(path)
      return entry.name.endsWith('.rs') && entry.name !== 'tests.rs' ? [path] : []
    })
    .sort()
}

function moduleOf(src, file) {
  return relative(src, file).split(sep)[0].replace(/\.rs$/, '')
}

/** How many times `super` leads to the root of the crate from the top level of a file. */
function depth(src, file) {
  const parts = relative(src, file).replace(/\.rs$/, '').split(sep)
  if (parts.at(-1) === 'mod') parts.pop()
  return parts.length === 1 && parts[0] === 'lib' ? 0 : parts.length
}

/** Identifiers and punctuation with their lines; comments, strings and characters are gone. */
function tokenize(text) {
  const pattern =
    /\/\/[^\n]*|\/\*|\b[bc]?r(#*)"|[bc]?"(?:[^"\\]|\\[\s\S])*"|b?'(?:[^'\\\n]|\\(?:u\{[^}]*\}|x..|.))'|'[A-Za-z_]\w*|(?:r#)?[A-Za-z_]\w*|::|[^\s\w]|\d\w*|\n/g
  const tokens = []
  let line = 1
  for (let match; (match = pattern.exec(text)); ) {
    let token = match[0]
    if (token === '/*') {
      pattern.lastIndex = endOfComment(text, match.index)
      token = text.slice(match.index, pattern.lastIndex)
    } else if (match[1] !== undefined) {
      const end = text.indexOf(`"${match[1]}`, pattern.lastIndex)
      pattern.lastIndex = end < 0 ? text.length : end + 1 + match[1].length
      token = text.slice(match.index, pattern.lastIndex)
    } else if (/^(?:::|[A-Za-z_]\w*|r#\w+|[^\s\w"'/]|\/)$/.test(token)) {
      tokens.push({ text: token, line })
    }
    line += token.split('\n').length - 1
  }
  return tokens
}

/** Rust's block comments nest. */
function endOfComment(text, start) {
  const edge = /\/\*|\*\//g
  edge.lastIndex = start
  for (let open = 0, match; (match = edge.exec(text)); ) {
    open += match[0] === '/*' ? 1 : -1
    if (open === 0) return edge.lastIndex
  }
  return text.length
}

/** Cuts out every item under `#[cfg(test)]`: tests may use whatever proves their point. */
function withoutTests(tokens) {
  const kept = []
  for (let i = 0; i < tokens.length; i++) {
    const ahead = tokens.slice(i, i + 7).map((token) => token.text).join('')
    if (ahead !== '#[cfg(test)]') {
      kept.push(tokens[i])
      continue
    }
    i = endOfItem(tokens, i + 7)
  }
  return kept
}

/** The last token of the item that starts here: its `;` or the bracket that closes its body. */
function endOfItem(tokens, start) {
  let open = 0
  for (let i = start; i < tokens.length; i++) {
    const { text } = tokens[i]
    if ('([{'.includes(text)) open++
    if (')]}'.includes(text)) open--
    if (open === 0 && (text === ';' || text === '}')) return i
  }
  return tokens.length
}

/** The first segment after `crate::`, or after the `super::`s that lead to the root; each branch of a `use {…}`. */
function* localPaths(tokens, fileDepth) {
  let inline = 0
  const modules = []
  for (let i = 0; i < tokens.length; i++) {
    const { text } = tokens[i]
    // Inline modules deepen what `super` means.
    if (text === 'mod' && tokens[i + 2]?.text === '{') {
      modules.push(inline + 1)
    }
    if (text === '{') inline++
    if (text === '}') {
      if (modules.at(-1) === inline) modules.pop()
      inline--
    }
    if (tokens[i - 1]?.text === '::' && tokens[i - 2]?.text !== '{') continue
    let at = i
    if (text === 'crate') {
      at = i + 1
    } else if (text === 'super') {
      let up = 1
      at = i + 1
      while (tokens[at]?.text === '::' && tokens[at + 1]?.text === 'super') {
        up++
        at += 2
      }
      if (up < fileDepth + modules.length) continue
    } else {
      continue
    }
    if (tokens[at]?.text === '::') yield* heads(tokens, at + 1)
  }
}

/** The first segments of a path, or of every branch of a group. */
function* heads(tokens, at) {
  if (tokens[at]?.text !== '{') {
    if (tokens[at]?.text === 'self') return
    yield { path: tokens[at]?.text ?? '', line: tokens[at]?.line ?? 0 }
    return
  }
  let open = 0
  for (let i = at; i < tokens.length; i++) {
    const { text } = tokens[i]
    if (text === '}' && --open === 0) return
    const starts = open === 1 && (tokens[i - 1].text === '{' || tokens[i - 1].text === ',')
    if (starts && /^\w+$/.test(text) && text !== 'self') yield { path: text, line: tokens[i].line }
    if (text === '{') open++
  }
}

/** What may stand before a path that begins with `::`. */
const keywords = new Set('as dyn else for if impl in match mut return use where while'.split(' '))

/** Identifiers that begin a path, so that they may name a crate. */
function* cratePaths(tokens) {
  for (let i = 0; i < tokens.length; i++) {
    const before = tokens[i - 1]?.text
    const after = tokens[i + 1]?.text
    const goesOn = before === '::' && /^\w+$|^>$/.test(tokens[i - 2]?.text ?? '') && !keywords.has(tokens[i - 2]?.text)
    const used = (before === 'use' || before === 'crate') && /^[;{]$|^as$/.test(after ?? '')
    if (!goesOn && (after === '::' || used)) yield { path: tokens[i].text.replace(/^r#/, ''), line: tokens[i].line }
  }
}
