// Which module may name which. A module is a file or folder right below src/; what it does not list is forbidden to it,
// and a module without a row is a mistake too. `error` is open to all, since every module reports through it.

/** What to hold a tree against. */
export const rules = {
  modules: {
    // Plain data.
    error: [],
    entry: ['error'],
    // The outside world, handed in.
    clock: [],
    wake: [],
    // Values and pure functions.
    config: ['entry', 'error'],
    retry: ['entry', 'error', 'clock'],
    revision: ['entry', 'error'],
    reference: ['error'],
    cipher: ['error'],
    keychain: ['entry', 'error', 'cipher'],
    // Parts.
    store: ['entry', 'error'],
    spool: ['entry', 'error'],
    roots: ['entry', 'error'],
    transfers: ['entry', 'error'],
    transport: ['entry', 'config', 'error'],
    // What outbox and engine share, since they never name each other.
    board: ['entry', 'config', 'error', 'clock', 'wake'],
    // The two halves.
    outbox: ['entry', 'config', 'error', 'store', 'spool', 'cipher', 'keychain', 'revision', 'reference', 'clock', 'wake',
      'board'],
    engine: [
      'entry', 'config', 'error', 'store', 'spool', 'cipher', 'keychain', 'transport', 'retry', 'revision', 'reference', 'clock',
      'wake', 'board',
    ],
    triggers: ['error', 'entry', 'config', 'clock', 'wake', 'keychain', 'outbox', 'roots', 'store'],
    // Assembly: everything. `builder`, `handle` and `events` are what outgrew lib.rs.
    commands: '*',
    lib: '*',
    builder: '*',
    handle: '*',
    events: '*',
    // What fuzzers feed: every reader of foreign input, wherever it is.
    fuzz: '*',
  },
  // Crates with one owner each; a crate that is not named here may be used anywhere.
  crates: {
    tauri: ['lib', 'commands', 'builder'],
    tauri_plugin: [],
    sqlx: ['store'],
    reqwest: ['transport'],
    keyring: ['keychain'],
    cap_std: ['roots'],
    cap_fs_ext: ['roots'],
    rustix: ['roots'],
  },
}
