// Pusher's own libraries and Laravel Echo, unchanged, with the example pusher:
//
//   node pusher.cjs HOST PORT SECRET
const assert = require('node:assert');
const { once, EventEmitter } = require('node:events');
const { dirname, join } = require('node:path');
const { pathToFileURL } = require('node:url');
const Backend = require('pusher');
const loaded = require('pusher-js');

const Pusher = loaded.Pusher ?? loaded;
const [host, port, secret] = process.argv.slice(2);

// heard collects events, and waits for them.
function heard() {
  const emitter = new EventEmitter();
  const all = [];
  return {
    note: (name) => (data, metadata) => {
      all.push({ name, data, metadata });
      emitter.emit('event');
    },
    async expect(name) {
      for (;;) {
        const at = all.findIndex((event) => event.name === name);
        if (at >= 0) return all.splice(at, 1)[0];
        await once(emitter, 'event');
      }
    },
    has: (name) => all.some((event) => event.name === name),
  };
}

function connect(user, key = 'demo') {
  return new Pusher(key, {
    cluster: '', wsHost: host, wsPort: Number(port), forceTLS: false, enabledTransports: ['ws'],
    channelAuthorization: { endpoint: `http://${host}:${port}/pusher/auth`, transport: 'ajax', params: { user } },
  });
}

async function connected(pusher) {
  await new Promise((resolve) => pusher.connection.bind('connected', resolve));
  assert.match(pusher.connection.socket_id, /^\d+\.\d+$/);
}

async function pusherJS(backend) {
  const anna = connect('anna'), bert = connect('bert');
  await Promise.all([connected(anna), connected(bert)]);
  const a = heard(), b = heard();

  const news = anna.subscribe('news');
  news.bind('pusher:subscription_succeeded', a.note('in news'));
  news.bind('headline', a.note('headline'));
  await a.expect('in news');
  await backend.trigger('news', 'headline', { text: 'grüße', list: [1, 2] });
  assert.deepEqual((await a.expect('headline')).data, { text: 'grüße', list: [1, 2] });

  // Who has caused an event is spared it.
  bert.subscribe('news').bind('headline', b.note('headline'));
  await new Promise((resolve) => bert.channel('news').bind('pusher:subscription_succeeded', resolve));
  await backend.trigger('news', 'headline', 'first', { socket_id: bert.connection.socket_id });
  await backend.triggerBatch([{ channel: 'news', name: 'headline', data: 'second' }]);
  assert.equal((await a.expect('headline')).data, 'first');
  assert.equal((await b.expect('headline')).data, 'second');

  for (const [pusher, ears] of [[anna, a], [bert, b]]) {
    const secret = pusher.subscribe('private-notes');
    secret.bind('pusher:subscription_succeeded', ears.note('in notes'));
    secret.bind('client-typing', ears.note('typing'));
    await ears.expect('in notes');
  }
  assert.ok(bert.channel('private-notes').trigger('client-typing', { at: 7 }));
  assert.deepEqual((await a.expect('typing')).data, { at: 7 });
  assert.ok(!b.has('typing'));

  for (const [pusher, ears, user] of [[anna, a, 'anna'], [bert, b, 'bert']]) {
    const room = pusher.subscribe('presence-room');
    for (const event of ['pusher:subscription_succeeded', 'pusher:member_added', 'pusher:member_removed', 'client-wave']) {
      room.bind(event, ears.note(event));
    }
    await ears.expect('pusher:subscription_succeeded');
    assert.equal(room.members.me.id, user);
  }
  assert.equal(bert.channel('presence-room').members.count, 2);
  assert.deepEqual((await a.expect('pusher:member_added')).data, { id: 'bert', info: { name: 'bert' } });
  bert.channel('presence-room').trigger('client-wave', {});
  assert.equal((await a.expect('client-wave')).metadata.user_id, 'bert');
  const users = await (await backend.get({ path: '/channels/presence-room/users' })).json();
  assert.deepEqual(users, { users: [{ id: 'anna' }, { id: 'bert' }] });

  // bert stays as long as one of his connections does.
  const again = connect('bert');
  await connected(again);
  const there = again.subscribe('presence-room');
  await new Promise((resolve) => there.bind('pusher:subscription_succeeded', resolve));
  again.disconnect();
  bert.unsubscribe('presence-room');
  assert.equal((await a.expect('pusher:member_removed')).data.id, 'bert');
  assert.ok(!a.has('pusher:member_removed') && !a.has('pusher:member_added'));
  const info = await (await backend.get({ path: '/channels/presence-room' })).json();
  assert.deepEqual(info, { occupied: true, subscription_count: 1, user_count: 1 });
  anna.disconnect();
  bert.disconnect();
}

async function refusals() {
  const stranger = connect('x', 'no such key');
  const ears = heard();
  stranger.connection.bind('error', ears.note('error'));
  assert.equal((await ears.expect('error')).data.error.data.code, 4001);
  stranger.disconnect();

  const forger = new Backend({ appId: '1', key: 'demo', secret: 'guessed', host, port, useTLS: false });
  await assert.rejects(forger.trigger('news', 'headline', 'forged'), { status: 401 });

  const guest = connect('guest');
  await connected(guest);
  guest.config.channelAuthorizer = (params, done) => done(null, { auth: 'demo:forged', channel_data: '{"user_id":"guest"}' });
  guest.subscribe('presence-other').bind('pusher:subscription_error', ears.note('forged'));
  assert.equal((await ears.expect('forged')).data.status, 401);
  guest.disconnect();
}

async function echo(backend) {
  // What it has for require is no CommonJS.
  const { default: Echo } = await import(pathToFileURL(join(dirname(require.resolve('laravel-echo')), 'echo.js')));
  const one = new Echo({ broadcaster: 'pusher', key: 'demo', client: connect('one') });
  const two = new Echo({ broadcaster: 'pusher', key: 'demo', client: connect('two') });
  await Promise.all([connected(one.connector.pusher), connected(two.connector.pusher)]);
  const ears = heard();
  one.channel('orders').listen('.shipped', ears.note('shipped')).subscribed(ears.note('in orders'));
  await ears.expect('in orders');
  await backend.trigger('orders', 'shipped', { order: 1 });
  assert.deepEqual((await ears.expect('shipped')).data, { order: 1 });

  one.private('room').listenForWhisper('typing', ears.note('whisper')).subscribed(ears.note('in room'));
  await ears.expect('in room');
  const other = two.private('room').subscribed(ears.note('two in room'));
  await ears.expect('two in room');
  other.whisper('typing', { name: 'two' });
  assert.deepEqual((await ears.expect('whisper')).data, { name: 'two' });

  one.join('party').here(ears.note('here')).joining(ears.note('joining')).leaving(ears.note('leaving'));
  assert.deepEqual((await ears.expect('here')).data, [{ name: 'one' }]);
  two.join('party').here(ears.note('two here'));
  assert.deepEqual((await ears.expect('joining')).data, { name: 'two' });
  assert.equal((await ears.expect('two here')).data.length, 2);
  two.leave('party');
  assert.deepEqual((await ears.expect('leaving')).data, { name: 'two' });
  one.disconnect();
  two.disconnect();
}

async function main() {
  const backend = new Backend({ appId: '1', key: 'demo', secret, host, port, useTLS: false });
  await pusherJS(backend);
  await refusals();
  await echo(backend);
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
