// Two pages of examples/websocket in headless Chromium, over wss: they exchange messages, the server
// is killed and comes back, and they exchange messages again.
//
//   node browser.cjs CHROMIUM CHAT ADDRESS FOLDER
//
// CHROMIUM is the browser, CHAT the program, ADDRESS where it serves wss, FOLDER where it keeps its
// authority and where pictures of the pages go.
const { chromium } = require('playwright-core');
const { execFileSync, spawn } = require('node:child_process');
const { mkdirSync } = require('node:fs');
const { once } = require('node:events');

const [chromiumPath, chat, address, folder] = process.argv.slice(2);
const patience = 60_000;

async function serve() {
  const server = spawn(chat, ['-listen', '127.0.0.1:0', '-secure', address, '-ca', folder],
    { stdio: ['ignore', 'pipe', 'inherit'] });
  process.on('exit', () => server.kill('SIGKILL'));
  await Promise.race([once(server.stdout, 'data'), // it listens
    once(server, 'exit').then(() => { throw new Error('the server has ended'); })]);
  return server;
}

async function kill(server) {
  const ended = once(server, 'exit');
  server.kill('SIGKILL');
  await ended;
}

// trust has Chromium, in a home of its own, trust the authority.
function trust() {
  const store = `${folder}/.pki/nssdb`;
  mkdirSync(store, { recursive: true });
  execFileSync('certutil', ['-d', `sql:${store}`, '-N', '--empty-password']);
  execFileSync('certutil', ['-d', `sql:${store}`, '-A', '-t', 'C,,', '-n', 'Whorl', '-i', `${folder}/ca.pem`]);
}

async function enter(browser, name, options) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 700 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  page.on('pageerror', (error) => { throw error; });
  page.on('console', (m) => console.log(`${name}'s console: ${m.text()}`));
  await page.goto(`https://${address}/`);
  if (options.pictures) await page.screenshot({ path: `${folder}/door.png` });
  await page.fill('#name', name);
  await page.click('#door button');
  await page.waitForSelector('#state.open');
  return page;
}

async function say(page, text) {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

const sees = (page, text) => page.locator('#log p', { hasText: text }).first().waitFor();

async function main() {
  let server = await serve();
  trust();
  const browser = await chromium.launch({
    executablePath: chromiumPath,
    env: { ...process.env, HOME: folder },
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
  const alice = await enter(browser, 'alice', { colorScheme: 'light', pictures: true });
  const bob = await enter(browser, 'bob', { colorScheme: 'dark' });
  await sees(alice, 'bob has come');
  await say(alice, 'Hello, is anybody here?');
  await sees(bob, 'Hello, is anybody here?');
  await say(bob, 'I am. <b>Nothing</b> of this is HTML.');
  await sees(alice, '<b>Nothing</b>');
  await say(alice, 'Good. The certificate is from the development authority, and this goes over wss.');
  await say(alice, 'Two lines of one person come together.');
  await sees(bob, 'Two lines');
  await say(bob, 'grüße, 你好, 👋');
  await sees(alice, '你好');
  await alice.screenshot({ path: `${folder}/light.png` });
  await bob.screenshot({ path: `${folder}/dark.png` });

  await bob.click('#rooms button:has-text("go")');
  await say(alice, 'Are you still there?');
  await bob.locator('#rooms i', { hasText: '1' }).waitFor();
  await bob.click('#rooms button:has-text("lobby")');

  await kill(server);
  for (const page of [alice, bob]) {
    await page.waitForSelector('#state.waiting');
    await page.locator('#trouble', { hasText: 'Trying again' }).waitFor();
  }
  await say(alice, 'kept until the server is back');
  await alice.screenshot({ path: `${folder}/offline.png` });
  server = await serve();
  for (const page of [alice, bob]) await page.waitForSelector('#state.open');
  for (const page of [alice, bob]) await page.locator('#count', { hasText: '2 people' }).waitFor();
  await alice.press('#text', 'Enter');
  await sees(bob, 'kept until the server is back');
  await say(bob, 'and so am I');
  await sees(alice, 'and so am I');
  const phone = await enter(browser, 'carol', { viewport: { width: 400, height: 700 } });
  await say(phone, 'from a small window');
  await sees(phone, 'from a small window');
  await phone.screenshot({ path: `${folder}/phone.png` });
  await browser.close();
  await kill(server);
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
