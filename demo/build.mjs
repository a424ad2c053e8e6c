// node demo/build.mjs [folder]
// Writes everything the demo page needs, and nothing else, into one folder the service can hand out as it is
// (default: src/leyden/demo/page).
import { copyFile, mkdir, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const require = createRequire(import.meta.url)
const here = dirname(fileURLToPath(import.meta.url))
const out = resolve(process.argv[2] ?? join(here, '..', 'src', 'leyden', 'demo', 'page'))

await rm(out, { recursive: true, force: true })
await mkdir(out, { recursive: true })
await build({
  entryPoints: [join(here, 'src', 'main.ts')],
  outfile: join(out, 'main.js'),
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2022',
  legalComments: 'eof',
  logLevel: 'warning',
})
for (const file of ['index.html', 'style.css']) await copyFile(join(here, file), join(out, file))
// SQLite itself; ElectricDatabase.init looks for it beside the bundle.
const wasm = 'wa-sqlite-async.wasm'
await copyFile(join(dirname(require.resolve('wa-sqlite/package.json')), 'dist', wasm), join(out, wasm))
