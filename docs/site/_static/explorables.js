// Brings the explorables of a page to life without a kernel.
// Each is an anywidget: an ES module with `initialize({model})` and `render({model, el})`.

// What anywidget's model does, with nobody at the other end.
class Model {
  constructor(state) {
    this.state = state;
    this.listeners = [];
  }

  get(name) {
    return this.state[name];
  }

  // All values are there before anybody is told of one.
  set(name, value) {
    const wanted = Object.entries(typeof name === "string" ? {[name]: value} : name);
    const changed = wanted.filter(([each, its]) => this.state[each] !== its);
    Object.assign(this.state, Object.fromEntries(changed));
    for (const [each, its] of changed) this.fire(`change:${each}`, its);
    if (changed.length) this.fire("change");
  }

  on(events, callback) {
    for (const event of events.split(" ")) this.listeners.push({event, callback});
  }

  off(event, callback) {
    this.listeners = this.listeners.filter(each =>
      (event && each.event !== event) || (callback && each.callback !== callback));
  }

  fire(event, value) {
    for (const each of this.listeners) if (each.event === event) each.callback(this, value);
  }

  save_changes() {}

  send() {}
}

const buffers = new Map(); // by address: widgets of a page share their networks

function loadBuffer(address) {
  if (!buffers.has(address.href)) {
    buffers.set(address.href, load(address).then(response => response.arrayBuffer()));
  }
  return buffers.get(address.href);
}

async function load(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address.pathname}: ${response.status}`);
  return response;
}

// Its rules must be there before a widget measures itself.
function addStyle(address) {
  return new Promise((resolve, reject) => {
    const link = Object.assign(document.createElement("link"), {rel: "stylesheet", href: address});
    link.onload = resolve;
    link.onerror = () => reject(new Error(`${address.pathname} is missing`));
    document.head.append(link);
  });
}

async function makeWidget(address) {
  const {esm, css, state, buffers: files} = await (await load(address)).json();
  await Promise.all(files.map(async ({path, file}) => {
    const bytes = await loadBuffer(new URL(file, address));
    const owner = path.slice(0, -1).reduce((part, key) => part[key], state);
    owner[path.at(-1)] = new DataView(bytes);
  }));
  if (css) await addStyle(new URL(css, address));
  const {default: widget} = await import(new URL(esm, address));
  const model = new Model(state);
  await widget.initialize?.({model});
  return {model, widget};
}

const widgets = new Map(); // by the address of the state: views of one model share it

async function bringToLife(element) {
  try {
    const address = new URL(element.dataset.state, document.baseURI);
    if (!widgets.has(address.href)) widgets.set(address.href, makeWidget(address));
    const {model, widget} = await widgets.get(address.href);
    await widget.render({model, el: element}); // site.css hides the picture once there is something
  } catch (error) {
    console.error(error);
    element.classList.add("failed");
    element.textContent = location.protocol === "file:"
      ? "This picture moves when a server shows the page: python -m http.server"
      : `This picture stays still: ${error.message}`;
  }
}

const observer = new IntersectionObserver(entries => {
  for (const {isIntersecting, target} of entries) {
    if (!isIntersecting) continue;
    observer.unobserve(target);
    bringToLife(target);
  }
}, {rootMargin: "400px"});
document.querySelectorAll(".explorable").forEach(element => observer.observe(element));
