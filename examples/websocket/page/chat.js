// The page of the chat. Its connection is made again whenever it is lost, for as long as the page is
// there, and each time with a new token: a browser doesn't tell why a handshake was refused.

const $ = (id) => document.getElementById(id);

const rooms = new Map(); // by name: {log, people, unread}
let name = '';
let current = '';
let mine = 0; // the ID of the connection, 0 while there is none
let socket = null;
let connecting = false;
let attempts = 0; // since the last welcome
let timer = 0;

// The connection

async function connect() {
  if (connecting || socket) return;
  connecting = true;
  clearTimeout(timer);
  state('connecting');
  let token;
  try {
    const response = await fetch('token', { method: 'POST', body: new URLSearchParams({ name }) });
    if (response.status === 400) {
      refused(await response.text());
      return;
    }
    if (!response.ok) throw new Error(response.statusText);
    ({ token } = await response.json());
  } catch {
    again();
    return;
  } finally {
    connecting = false;
  }
  const url = new URL(`ws?token=${token}`, location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  socket = new WebSocket(url, 'chat');
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = ({ code, reason }) => {
    socket = null;
    mine = 0;
    again(code, reason);
  };
}

// again connects after a while: at first soon, then ever more rarely, and never all pages at once.
function again(code, reason) {
  const most = Math.min(30_000, 500 * 2 ** attempts++);
  let left = Math.ceil((most / 2 + Math.random() * most / 2) / 1000 * 2) / 2;
  const why = code === 1001 ? 'The server is being restarted' : reason || 'The connection is lost';
  const tick = () => {
    if (left <= 0) {
      connect();
      return;
    }
    state('waiting', `${why}. Trying again in ${Math.ceil(left)} s`);
    left -= 0.5;
    timer = setTimeout(tick, 500);
  };
  tick();
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function receive(m) {
  const room = rooms.get(m.room);
  switch (m.type) {
    case 'welcome':
      mine = m.id;
      attempts = 0;
      state('open');
      for (const each of rooms.keys()) send({ type: 'join', room: each });
      break;
    case 'members':
      if (room) room.people = new Map(m.members.map((p) => [p.id, p.name]));
      break;
    case 'joined':
      if (room && !isHere(room, m.name)) note(room, `${m.name} has come`);
      room?.people.set(m.id, m.name);
      break;
    case 'left':
      room?.people.delete(m.id);
      if (room && !isHere(room, m.name)) note(room, `${m.name} has left`);
      break;
    case 'said':
      if (room) said(room, m);
      break;
    case 'error':
      note(room ?? rooms.get(current), m.text);
      break;
  }
  show(m.room);
}

// Somebody with several windows is there until the last one is closed.
const isHere = (room, who) => [...room.people.values()].includes(who);

// The rooms

function enter(room) {
  if (!rooms.has(room)) {
    rooms.set(room, { log: [], people: new Map(), unread: 0 });
    send({ type: 'join', room });
    remember();
  }
  current = room;
  rooms.get(room).unread = 0;
  show(room);
  $('text').focus();
}

function leave(room) {
  send({ type: 'leave', room });
  rooms.delete(room);
  remember();
  enter(rooms.keys().next().value ?? 'lobby');
}

function said(room, m) {
  const last = room.log.at(-1);
  const more = last?.by === m.name && m.time - last.time < 120_000;
  add(room, { by: m.name, text: m.text, time: m.time, more });
  if (m.room !== current || document.hidden) room.unread++;
}

const note = (room, text) => add(room, { text, time: Date.now() });

function add(room, entry) {
  room.log.push(entry);
  if (room.log.length > 500) room.log.shift();
}

const remember = () => sessionStorage.setItem('rooms', JSON.stringify([...rooms.keys()]));

// What is seen. Everything that others have said becomes text, never HTML.

function el(tag, attributes, ...children) {
  const e = Object.assign(document.createElement(tag), attributes);
  e.append(...children);
  return e;
}

function face(who) {
  const hue = [...who].reduce((h, c) => (h * 31 + c.codePointAt(0)) % 360, 7);
  const e = el('span', { className: 'face', ariaHidden: 'true' }, [...who][0] ?? '');
  e.style.background = `hsl(${hue} 45% 42%)`;
  return e;
}

function line(entry) {
  if (!entry.by) return el('li', { className: 'note' }, el('p', {}, entry.text));
  const text = el('p', {}, entry.text);
  if (entry.more) return el('li', { className: 'more' }, text);
  const when = new Date(entry.time);
  const time = el('time', { dateTime: when.toISOString() },
    when.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
  return el('li', {}, face(entry.by), el('div', { className: 'by' }, el('b', {}, entry.by), time), text);
}

// show brings the page up to date after something has happened in a room.
function show(changed) {
  $('rooms').replaceChildren(...[...rooms].map(([each, { unread }]) => {
    const button = el('button', { type: 'button', onclick: () => enter(each) }, el('span', {}, each));
    if (each === current) button.setAttribute('aria-current', 'true');
    if (unread) button.append(el('i', {}, String(unread)));
    return el('li', {}, button);
  }));
  const unread = [...rooms.values()].reduce((sum, each) => sum + each.unread, 0);
  document.title = (unread ? `(${unread}) ` : '') + 'Whorl chat';
  if (changed !== current) return;

  const { log, people } = rooms.get(current);
  const names = [...new Set(people.values())].sort((a, b) => a.localeCompare(b));
  $('title').textContent = current;
  $('count').textContent = names.length === 1 ? 'only you' : names.length ? `${names.length} people` : '';
  $('text').placeholder = `Say something in ${current}`;
  $('people').replaceChildren(...names.map((each) =>
    el('li', {}, face(each), el('span', {}, each === name ? `${each} (you)` : each))));
  const list = $('log');
  list.replaceChildren(...(log.length ? log.map(line) :
    [el('li', { className: 'empty' }, 'Nothing has been said here yet.')]));
  list.scrollTop = list.scrollHeight;
}

function state(is, trouble) {
  $('state').className = is;
  $('state').textContent = is === 'open' ? 'online' : is === 'connecting' ? 'connecting' : 'offline';
  if (is !== 'connecting') $('banner').hidden = is === 'open';
  if (trouble) $('trouble').textContent = trouble;
  $('composer').querySelector('button').disabled = is !== 'open';
}

function refused(why) {
  sessionStorage.removeItem('name');
  $('door').hidden = false;
  $('chat').hidden = true;
  $('refusal').textContent = why;
}

function open(who, list) {
  name = who;
  sessionStorage.setItem('name', name);
  $('door').hidden = true;
  $('chat').hidden = false;
  $('me').textContent = name;
  const mine = face(name);
  mine.id = 'myface';
  $('myface').replaceWith(mine);
  for (const room of list) enter(room);
  connect();
}

// What is done

$('door').onsubmit = (event) => {
  event.preventDefault();
  open($('name').value.trim(), ['go', 'lobby']);
};
$('opener').onsubmit = (event) => {
  event.preventDefault();
  enter($('room').value.trim());
  $('room').value = '';
};
$('composer').onsubmit = (event) => {
  event.preventDefault();
  const text = $('text').value.trim();
  if (!text || !mine) return; // what was typed stays
  send({ type: 'say', room: current, text });
  $('text').value = '';
};
$('leave').onclick = () => leave(current);
$('now').onclick = connect;
window.ononline = () => { if (name) connect(); };
document.onvisibilitychange = () => {
  if (!document.hidden && rooms.has(current)) enter(current);
};

// A page that is loaded again goes on.
if (sessionStorage.getItem('name')) {
  open(sessionStorage.getItem('name'), JSON.parse(sessionStorage.getItem('rooms') ?? '["lobby"]'));
}
