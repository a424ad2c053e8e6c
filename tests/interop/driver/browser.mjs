#!/usr/bin/env node
// A headless Chromium on a leash: JSON lines like driver.mjs. Pages are named ("page", default "default"); each has a
// browser context of its own when `isolated`, else they are tabs of one profile.
import './lib/console.mjs'
import { emit, serve, sleep } from './lib/rpcloop.mjs'
import { launchChromium } from './lib/chromium.mjs'

let browser
const pages = new Map()

function get(name = 'default') {
  const opened = pages.get(name)
  if (!opened) throw new Error(`no page "${name}"`)
  return opened
}

async function open(name, isolated) {
  const context = isolated ? await browser.createBrowserContext() : browser.defaultBrowserContext()
  const opened = { page: await context.newPage(), console: [], requests: [], sockets: [] }
  pages.set(name, opened)
  const { page, requests, sockets } = opened
  page.on('console', (message) => opened.console.push({ type: message.type(), text: message.text() }))
  page.on('pageerror', (error) => {
    const text = String(error?.message ?? error)
    opened.console.push({ type: 'pageerror', text })
    emit({ event: 'pageerror', page: name, message: text })
  })
  page.on('response', (r) => requests.push({ url: r.url(), status: r.status(), type: r.headers()['content-type'] ?? null }))
  page.on('requestfailed', (r) => requests.push({ url: r.url(), failed: r.failure()?.errorText }))
  const cdp = await page.createCDPSession()
  await cdp.send('Network.enable')
  cdp.on('Network.webSocketCreated', (e) => sockets.push({ kind: 'created', url: e.url }))
  cdp.on('Network.webSocketWillSendHandshakeRequest', (e) => sockets.push({ kind: 'request', headers: e.request.headers }))
  cdp.on('Network.webSocketHandshakeResponseReceived', (e) =>
    sockets.push({ kind: 'response', status: e.response.status, headers: e.response.headers }))
  cdp.on('Network.webSocketFrameSent', (e) => sockets.push({ kind: 'sent', b64: e.response.payloadData }))
  cdp.on('Network.webSocketFrameReceived', (e) => sockets.push({ kind: 'recv', b64: e.response.payloadData }))
  cdp.on('Network.webSocketFrameError', (e) => sockets.push({ kind: 'error', message: e.errorMessage }))
  cdp.on('Network.webSocketClosed', () => sockets.push({ kind: 'closed' }))
  return opened
}

const commands = {
  async hello() {
    return { node: process.version, pid: process.pid, commands: Object.keys(commands) }
  },

  /** {directory} where the browser is unpacked and keeps its profile; the caller removes it afterwards. */
  async launch({ directory }) {
    browser = await launchChromium(directory)
    return { version: await browser.version() }
  },

  /** {page?, url, isolated?} opens the page the first time, then navigates it. */
  async goto({ page = 'default', url, isolated = false }) {
    const opened = pages.get(page) ?? (await open(page, isolated))
    const response = await opened.page.goto(url, { waitUntil: 'load' })
    return { status: response?.status() ?? null }
  },

  async reload({ page }) {
    await get(page).page.reload({ waitUntil: 'load' })
  },

  /** {js} an expression (may be a promise) evaluated in the page; JSON result */
  async eval({ page, js }) {
    return get(page).page.evaluate(js)
  },

  /** {js, timeoutMs?} until the expression is truthy; returns its value */
  async waitFor({ page, js, timeoutMs = 10000, pollMs = 50 }) {
    const end = Date.now() + timeoutMs
    for (;;) {
      const value = await get(page).page.evaluate(js)
      if (value) return value
      if (Date.now() > end) throw Object.assign(new Error(`timed out after ${timeoutMs} ms: ${js}`), { name: 'DriverTimeout' })
      await sleep(pollMs)
    }
  },

  async click({ page, selector }) {
    await get(page).page.click(selector)
  },

  async type({ page, selector, text }) {
    await get(page).page.type(selector, text)
  },

  async press({ page, key }) {
    await get(page).page.keyboard.press(key)
  },

  /** {offline} network emulation; open WebSockets are not cut by it */
  async offline({ page, offline }) {
    await get(page).page.setOfflineMode(offline)
  },

  /** {width, height, scale?, dark?} */
  async viewport({ page, width, height, scale = 1, dark = false }) {
    const { page: target } = get(page)
    await target.setViewport({ width, height, deviceScaleFactor: scale })
    await target.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }])
  },

  /** {path} a PNG of the whole page */
  async screenshot({ page, path }) {
    await get(page).page.screenshot({ path, fullPage: true })
  },

  /** everything observed so far: console, HTTP responses, WebSocket handshakes and frames */
  async observed({ page }) {
    const { console: lines, requests, sockets } = get(page)
    return { console: lines, requests, sockets }
  },

  async closePage({ page = 'default' }) {
    await get(page).page.close()
    pages.delete(page)
  },

  async exit() {
    await browser?.close().catch(() => {})
    setTimeout(() => process.exit(0), 10)
  },
}

serve(commands, { onEnd: () => commands.exit() })
emit({ event: 'ready', node: process.version })
