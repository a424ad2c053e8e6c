// A headless Chromium that needs no system package: @sparticuz/chromium carries the browser compressed and unpacks it
// into the temporary directory. Here everything the browser is, reads and writes lies below one folder that the caller
// names and removes.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import chromium, { inflate } from '@sparticuz/chromium'
import puppeteer from 'puppeteer-core'

// The package's own `args` are for a cloud sandbox and switch the web's security off (--disable-web-security), which
// would let a page pass whose Origin or CSP is refused everywhere else.
const FLAGS = [
  '--no-sandbox', // needs a setuid helper the package does not bring; only pages of our own are loaded
  '--disable-gpu',
  '--disable-dev-shm-usage', // containers often have 64 MB there
  '--no-first-run',
  '--no-default-browser-check',
  '--disable-background-networking',
  '--disable-component-update',
]

/** Unpacks into `directory` what is not there yet (1-2 s the first time) and starts a browser. */
export async function launchChromium(directory) {
  await mkdir(directory, { recursive: true })
  process.env.TMPDIR = directory // asked for by os.tmpdir() on each call: the package unpacks there, profiles go there
  const executablePath = await chromium.executablePath()
  await writeFile(join(directory, 'fonts', 'fonts.conf'), fontconfig(directory))
  const env = {
    ...process.env,
    HOME: directory, // certificates, crash reports and settings would otherwise land in the user's home
    XDG_CONFIG_HOME: join(directory, 'config'),
    XDG_CACHE_HOME: join(directory, 'cache'),
    FONTCONFIG_FILE: join(directory, 'fonts', 'fonts.conf'),
  }
  const options = { executablePath, headless: 'shell', pipe: true, args: FLAGS, env }
  try {
    return await puppeteer.launch(options)
  } catch {
    // Most likely the system has no NSS libraries. The package brings those too, for Amazon's Linux.
    const libraries = await inflate(fileURLToPath(new URL('../bin/al2023.tar.br', import.meta.resolve('@sparticuz/chromium'))))
    return puppeteer.launch({ ...options, env: { ...env, LD_LIBRARY_PATH: join(libraries, 'lib') } })
  }
}

/** The package's own configuration names a fixed folder; this one names the folder really used. */
function fontconfig(directory) {
  const escaped = directory.replace(/&/g, '&amp;').replace(/</g, '&lt;')
  return `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir>${escaped}/fonts/fonts</dir>
  <cachedir>${escaped}/cache/fontconfig</cachedir>
</fontconfig>
`
}
