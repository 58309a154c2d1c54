// npm's ws as a peer:
//
//   node ws_peer.cjs serve OPTIONS         an echo server; prints "port N"
//   node ws_peer.cjs talk URL OPTIONS      talks to an echo server of ours; prints "ok"
//
// OPTIONS are the perMessageDeflate of ws, as JSON. Both sides know some words: for "close 3001"
// they close with that, for "ping" they ping, and say "ponged" when that is answered, for
// "fragments" they send a message in fragments.
const assert = require('node:assert');
const { once } = require('node:events');
const { WebSocket, WebSocketServer } = require('ws');

function serve(perMessageDeflate) {
  const server = new WebSocketServer({
    host: '127.0.0.1', port: 0, perMessageDeflate, maxPayload: 32 << 20,
    handleProtocols: (offered) => (offered.has('chat') ? 'chat' : false),
  }, () => console.log(`port ${server.address().port}`));
  server.on('connection', (ws) => {
    ws.on('message', (data, binary) => {
      const text = binary ? '' : data.toString();
      if (text === 'close 3001') ws.close(3001, 'as asked');
      else if (text === 'ping') {
        ws.once('pong', (data) => ws.send(`ponged ${data}`));
        ws.ping('from ws');
      } else if (text === 'fragments') {
        ws.send('in ', { fin: false });
        ws.ping('between');
        ws.send('three ', { fin: false });
        ws.send('fragments', { fin: true });
      } else ws.send(data, { binary });
    });
  });
}

async function talk(url, perMessageDeflate) {
  const ws = new WebSocket(url, 'chat', { perMessageDeflate, maxPayload: 32 << 20 });
  const heard = [];
  const closed = once(ws, 'close');
  ws.on('message', (data, binary) => heard.push(binary ? data : data.toString()));
  const next = async () => {
    while (!heard.length) await once(ws, 'message');
    return heard.shift();
  };
  await once(ws, 'open');
  assert.equal(ws.protocol, 'chat');
  assert.equal(ws.extensions.includes('permessage-deflate'), Boolean(perMessageDeflate));

  for (const text of ['', 'hello', 'grüße 你好 👋', 'long '.repeat(100_000), 'again '.repeat(100)]) {
    ws.send(text);
    assert.equal(await next(), text);
  }
  for (const size of [0, 1, 125, 126, 65535, 65536, 1 << 20]) {
    const data = Buffer.from(Array.from({ length: size }, (_, i) => (i * i) >> 3));
    ws.send(data);
    assert.ok(data.equals(await next()), `${size} bytes`);
  }
  for (const piece of ['one ', 'message ', 'in ']) ws.send(piece, { fin: false });
  ws.ping('between');
  assert.equal(String((await once(ws, 'pong'))[0]), 'between');
  ws.send('fragments', { fin: true });
  assert.equal(await next(), 'one message in fragments');
  for (const [word, answer] of [['ping', 'ponged from Whorl'], ['fragments', 'in three fragments']]) {
    ws.send(word);
    assert.equal(await next(), answer);
  }
  ws.send('close 3001');
  const [code, reason] = await closed;
  assert.deepEqual([code, String(reason)], [3001, 'as asked']);

  const other = new WebSocket(url, 'chat', { perMessageDeflate });
  await once(other, 'open');
  other.close(1000, 'bye');
  const [answer, repeated] = await once(other, 'close');
  assert.deepEqual([answer, String(repeated)], [1000, 'bye']);
  console.log('ok');
}

const [mode, ...args] = process.argv.slice(2);
const options = JSON.parse(args.at(-1));
if (mode === 'serve') serve(options);
else talk(args[0], options);
