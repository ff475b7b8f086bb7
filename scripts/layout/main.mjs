// The command behind scripts/check-layout.

import { breaches } from './check.mjs'
import { missing } from './names.mjs'
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
if (asked.length > 0) console.log(`The checker catches what it should in ${trees} trees and documents.`)

const found = breaches('src', rules)
if (found.length > 0) {
  console.error(`Modules that know too much:\n  ${found.join('\n  ')}`)
  process.exit(1)
}
console.log('Every module of src/ names only what it may.')

const documents = ['README.md', 'CHANGELOG.md', 'docs/promises.md', 'docs/model.md', 'docs/outcomes.md', 'docs/security.md', 'docs/server-contract.md']
const gone = missing('.', documents)
if (gone.length > 0) {
  console.error(`Documents that name what is not there:\n  ${gone.join('\n  ')}`)
  process.exit(1)
}
console.log('Every test and file that a document names is there.')
