// The command behind scripts/check-layout.

import { breaches } from './check.mjs'
import { rules } from './rules.mjs'
import { selfTest, trees } from './self-test.mjs'

const asked = process.argv.slice(2)
if (asked.some((argument) => argument !== '--self-test')) {
  console.error('usage: scripts/check-layout [--self-test]')
  process.exit(64)
}

const wrong = asked.length > 0 ? selfTest() : []
if (wrong.length > 0) {
  console.error(`The checker itself is wrong:\n  ${wrong.join('\n  ')}`)
  process.exit(1)
}
if (asked.length > 0) console.log(`The checker catches what it should in ${trees} trees.`)

const found = breaches('src', rules)
if (found.length > 0) {
  console.error(`Modules that know too much:\n  ${found.join('\n  ')}`)
  process.exit(1)
}
console.log('Every module of src/ names only what it may.')
