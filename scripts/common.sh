# shellcheck shell=bash
# Sourced by the other scripts: where things are, and how they talk. Leaves the shell in the root of the repository.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
root=$PWD
# shellcheck disable=SC2034 # for those who source this
target=${CARGO_TARGET_DIR:-$root/target}
# What `cargo install` installed is found even where the profile was not read, as in CI.
export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"

say() { printf '%s\n' "$*"; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Whether this system can show windows to somebody.
has_display() {
  case $(uname -s) in
    Darwin | MINGW* | MSYS* | CYGWIN*) return 0 ;;
    *) [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]] ;;
  esac
}

# The guest binding and the example's pages. The Rust side needs them too: tauri embeds the built pages at compile time.
build_frontend() {
  npm run --silent build &&
    npm run --silent --prefix examples/tauri-app build
}
