// Breaks the rules of rules.mjs in a copy of the sources, one at a time, and runs the simulation against each.

import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { rules } from './rules.mjs'

const ASKS = `
static BROKEN_RULE: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var("BROKEN_RULE").ok());
pub(crate) fn is_broken(rule: &str) -> bool { BROKEN_RULE.as_deref() == Some(rule) }
pub(crate) fn broken_sql(text: &str) -> String {
    let edit = BROKEN_RULE.as_deref().and_then(|rule| BROKEN_SQL.iter().find(|(name, ..)| *name == rule));
    let Some((_, find, put)) = edit.filter(|(_, find, _)| text.contains(find)) else { return text.to_owned() };
    static TOLD: std::sync::Once = std::sync::Once::new();
    TOLD.call_once(|| eprintln!("a statement is broken"));
    text.replace(find, put)
}
`

const root = resolve(import.meta.dirname, '../..')
const place = join(resolve(process.env.CARGO_TARGET_DIR ?? join(root, 'target')), 'broken-rules')
const tree = join(place, 'tree')
// Of its own: cargo would take what is built of the copy for what is built of the sources.
const target = join(place, 'target')
const names = process.argv.slice(2)
const chosen = rules.filter(rule => names.length === 0 || names.includes(rule.name))
const unknown = names.filter(name => !rules.some(rule => rule.name === name))
if (unknown.length > 0) throw new Error(`no such rule: ${unknown.join(', ')}`)

function once(text, find, put, where) {
  const parts = text.split(find)
  if (parts.length !== 2) throw new Error(`${where}: ${JSON.stringify(find)} is there ${parts.length - 1} times`)
  return parts.join(put)
}

function edit(file, change) {
  const path = join(tree, file)
  writeFileSync(path, change(readFileSync(path, 'utf8')))
}

/// The whole statement that makes a trigger.
function trigger(name) {
  const schema = readFileSync(join(root, 'src/store/migrations/0001_outbox.sql'), 'utf8')
  const begin = schema.indexOf(`CREATE TRIGGER ${name} `)
  if (begin < 0) throw new Error(`there is no trigger ${name}`)
  return schema.slice(begin, schema.indexOf('\nEND;', begin) + '\nEND;'.length)
}

function copy() {
  rmSync(tree, { recursive: true, force: true })
  const files = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' }).split('\0').filter(Boolean)
  for (const file of files) {
    mkdirSync(dirname(join(tree, file)), { recursive: true })
    cpSync(join(root, file), join(tree, file))
  }
}

function breakAll() {
  const rust = value => `r####"${value}"####`
  const sql = rules.filter(rule => rule.sql).map(rule => [rule.name, ...rule.sql])
  const triggers = rules.filter(rule => rule.trigger).map(({ name, trigger: [which, find, put] }) => {
    const broken = once(trigger(which), find, put, name)
    return `if crate::is_broken("${name}") { sqlx::raw_sql(${rust(`DROP TRIGGER ${which}; ${broken}`)}).execute(&mut *connection).await?; eprintln!("a statement is broken"); }`
  })
  const table = sql.map(edit => `(${edit.map(rust).join(', ')})`).join(',\n')
  edit('src/lib.rs', text => `${text}${ASKS}static BROKEN_SQL: &[(&str, &str, &str)] = &[${table}];\n`)
  edit('src/store/sql.rs', text => once(text, 'self.text.push_str(statement);', 'self.text.push_str(&crate::broken_sql(statement));', 'Batch'))
  for (const part of ['feed', 'enqueue', 'advance']) {
    const asked = 'sqlx::raw_sql(sqlx::AssertSqlSafe(crate::broken_sql(SET_UP)))'
    edit(`src/store/${part}.rs`, text => once(text, 'sqlx::raw_sql(SET_UP)', asked, part))
  }
  const setUp = '    advance::set_up(connection).await\n'
  edit('src/store/open.rs', text => once(text, setUp, `${triggers.join('\n')}\n${setUp}`, 'open'))
  for (const { name, source } of rules.filter(rule => rule.source)) {
    const [file, find, put] = source
    edit(file, text => once(text, find, put.replaceAll('BROKEN', `crate::is_broken("${name}")`), name))
  }
}

function build() {
  const arguments_ = ['test', '--test', 'scenarios', '--no-run', '--message-format', 'json']
  const built = spawnSync('cargo', arguments_, {
    cwd: tree,
    encoding: 'utf8',
    env: { ...process.env, CARGO_TARGET_DIR: target },
    maxBuffer: 1 << 30,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const messages = built.stdout.split('\n').filter(line => line.startsWith('{')).map(line => JSON.parse(line))
  for (const { message } of messages.filter(({ reason, message }) => reason === 'compiler-message' && message.level === 'error')) {
    console.error(message.rendered)
  }
  const binary = messages.find(({ executable, target }) => executable && target.name === 'scenarios')?.executable
  if (built.status !== 0 || !binary) throw new Error('the broken sources do not build')
  return binary
}

function run(binary, rule, test, variables) {
  const environment = { ...process.env, RUST_BACKTRACE: '0', CARGO_MANIFEST_DIR: root, ...variables }
  if (rule) environment.BROKEN_RULE = rule.name
  else delete environment.BROKEN_RULE
  const { stdout, stderr } = spawnSync(binary, [`simulation::${test}`, '--nocapture'], { env: environment, encoding: 'utf8', maxBuffer: 1 << 28 })
  return stdout + stderr
}

const TESTS = { Full: 'every_promise', Compares: 'nothing_is_applied_twice', Neither: 'nothing_is_lost' }

/// The first history that fails, or none.
function caught(binary, rule) {
  const variables = { STORAGE_SYNC_HISTORIES: process.env.STORAGE_SYNC_HISTORIES ?? '300', STORAGE_SYNC_SEED: process.env.STORAGE_SYNC_SEED ?? '1' }
  let told = Boolean(rule.source)
  for (const [mode, test] of Object.entries(TESTS)) {
    const output = run(binary, rule, test, variables)
    told ||= output.includes('a statement is broken')
    const found = output.match(/^(.*)\n\n\w+: STORAGE_SYNC_HISTORIES=1 STORAGE_SYNC_SEED=(\d+) repeats it/m)
    if (!found) continue
    const seed = found[2]
    const sound = run(binary, undefined, test, { STORAGE_SYNC_HISTORIES: '1', STORAGE_SYNC_SEED: seed })
    if (!sound.includes('test result: ok')) throw new Error(`history ${seed} of ${mode} fails although nothing is broken`)
    const why = output.slice(0, found.index + found[1].length).split('\n').findLast(line => /^(device \d|\[|these never|assertion|.*should have)/.test(line))
    return { mode, seed, why: (why ?? found[1]).slice(0, 160) }
  }
  if (!told) throw new Error(`${rule.name}: what is to be broken never ran`)
}

copy()
breakAll()
const binary = build()
const missed = []
for (const rule of chosen) {
  const found = caught(binary, rule)
  if (found) console.log(`| ${rule.what} | ${found.mode} \`${found.seed}\` | ${found.why} |`)
  else if (rule.test) console.log(`| ${rule.what} | not in these | ${rule.test} |`)
  else {
    console.log(`| ${rule.what} | not caught | |`)
    missed.push(rule.name)
  }
}
if (missed.length > 0) {
  console.error(`not caught: ${missed.join(', ')}`)
  process.exitCode = 1
}
