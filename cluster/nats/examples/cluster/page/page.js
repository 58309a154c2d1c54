// The page of the chat. It keeps the position of the last message of each room, and joins with that
// when it connects again: so it gets what was said meanwhile, if the nodes keep that (-history).

const $ = (id) => document.getElementById(id);

const rooms = new Map(); // by name: {log, members, count, at}
let name = '';
let current = '';
let socket = null;
let attempts = 0;

function connect() {
  const url = new URL(`ws?name=${encodeURIComponent(name)}`, location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  state('connecting');
  const own = new WebSocket(url);
  socket = own;
  own.onmessage = ({ data }) => {
    if (own === socket) receive(JSON.parse(data));
  };
  own.onclose = () => {
    // At first soon, then ever more rarely, and never all pages at once.
    if (own === socket) again(Math.min(10_000, 300 * 2 ** attempts++) * (0.5 + Math.random() / 2));
  };
}

function again(after) {
  socket = null;
  state('offline');
  for (const room of rooms.values()) room.members = [];
  show();
  setTimeout(connect, after);
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

const join = (room) => send({ type: 'join', room, at: rooms.get(room).at });

function receive(m) {
  const room = rooms.get(m.room);
  if (room && m.at && (room.at?.epoch !== m.at.epoch || room.at.offset < m.at.offset)) room.at = m.at;
  switch (m.type) {
    case 'welcome':
      attempts = 0;
      $('node').textContent = m.node;
      state('online');
      for (const each of rooms.keys()) join(each);
      break;
    case 'joined':
      if (room && m.lost) add(room, 'gap', 'Not all that was said since you were here can be had.');
      break;
    case 'here':
      if (!room) break;
      room.members = m.members ?? [];
      room.count = m.count ?? 0;
      for (const p of m.went ?? []) add(room, 'note', `${p.name} has left ${p.node}`);
      for (const p of m.came ?? []) add(room, 'note', `${p.name} has come to ${p.node}`);
      break;
    case 'said':
      if (room) add(room, '', m.text, m);
      break;
    case 'told':
      add(rooms.get(current), 'alone', m.text, m);
      break;
    case 'gap':
      add(room ?? rooms.get(current), 'gap', m.user ?
        `Something for you alone may be lost: ${m.text}` : `Something may be lost: ${m.text}`);
      break;
    case 'error':
      add(room ?? rooms.get(current), 'gap', m.text);
      break;
  }
  show();
}

function add(room, kind, text, by) {
  if (!room) return;
  room.log.push({ kind, text, by });
  if (room.log.length > 500) room.log.shift();
}

function enter(room) {
  if (!rooms.has(room)) {
    rooms.set(room, { log: [], members: [], count: 0, at: undefined });
    join(room);
  }
  current = room;
  show();
  $('text').focus();
}

// What is seen. Everything that others have said becomes text, never HTML.

function el(tag, attributes, ...children) {
  const e = Object.assign(document.createElement(tag), attributes);
  e.append(...children);
  return e;
}

function line({ kind, text, by }) {
  if (!by) return el('li', { className: kind === 'gap' ? 'gap' : 'note' }, text);
  const time = new Date(by.time).toLocaleTimeString();
  const to = by.user ? ` to ${by.user}` : '';
  const where = el('small', {}, `${by.node}, ${time}`);
  return el('li', { className: kind }, el('b', {}, by.name + to), ' ', where, ' ', text);
}

function show() {
  $('rooms').replaceChildren(...[...rooms.keys()].map((each) => {
    const button = el('button', { type: 'button', onclick: () => enter(each) }, each);
    if (each === current) button.setAttribute('aria-current', 'true');
    return el('li', {}, button);
  }));
  const { log, members, count } = rooms.get(current);
  $('leaving').textContent = current;
  $('log').replaceChildren(...log.map(line));
  $('log').scrollTop = $('log').scrollHeight;
  const nodes = Map.groupBy(members, (p) => p.node);
  const person = (p) => el('button', { type: 'button', onclick: () => to(p.name) }, p.name);
  $('where').replaceChildren(...[...nodes].flatMap(([node, people]) => [
    el('h3', {}, `${node}: ${people.length}`),
    el('ul', {}, ...people.map((p) => el('li', {}, person(p)))),
  ]), ...(count > members.length ? [`and ${count - members.length} more`] : []));
}

function to(who) {
  $('text').value = `@${who} `;
  $('text').focus();
}

function state(is) {
  $('state').textContent = is;
  $('away').disabled = is !== 'online';
}

// What is done

$('door').onsubmit = (event) => {
  event.preventDefault();
  name = $('name').value.trim();
  $('me').textContent = name;
  $('door').hidden = true;
  document.querySelector('main').hidden = false;
  enter('lobby');
  connect();
};
$('opener').onsubmit = (event) => {
  event.preventDefault();
  enter($('room').value.trim());
  $('room').value = '';
};
$('composer').onsubmit = (event) => {
  event.preventDefault();
  const text = $('text').value.trim();
  if (!text || socket?.readyState !== WebSocket.OPEN) return; // what was typed stays
  const [, user, rest] = /^@(\S+)\s+(.+)$/s.exec(text) ?? [];
  send(user ? { type: 'tell', user, text: rest } : { type: 'say', room: current, text });
  $('text').value = '';
};
$('leave').onclick = () => {
  if (current === 'lobby') return;
  send({ type: 'leave', room: current });
  rooms.delete(current);
  enter('lobby');
};
$('away').onclick = () => {
  const closing = socket;
  again(10_000);
  closing.close();
};
