import { defineConfig } from 'vite'

export default defineConfig({
  clearScreen: false,
  // The binding is linked from the repository, where it has a copy of its own.
  resolve: { dedupe: ['@tauri-apps/api'] },
  build: { target: 'safari16', modulePreload: false },
})
