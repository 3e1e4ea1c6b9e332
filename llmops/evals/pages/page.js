"use strict";
// Shows the answers in the page's data. Every text becomes a text node: nothing in the data is ever read as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 50;
const COLUMNS = data.pair ? ["", "asked", "baseline said", "challenger said"] : ["", "asked", "expected", "said"];
const at = (id) => document.getElementById(id);
const state = { find: "", verdict: "", slice: "", order: "", page: 0 };

function made(tag, kind, text) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  if (text !== undefined) node.textContent = text;
  return node;
}
function short(text) {
  return text.replace(/\s+/g, " ").slice(0, 300);
}
function number(value) {
  return value === null || value === undefined ? "–" : String(Math.round(value * 1000) / 1000);
}
function signed(value) {
  return value === null ? "–" : (value >= 0 ? "+" : "") + number(value);
}

const answers = data.answers.map((one, place) => {
  const said = [one.said.text].concat(one.before ? [one.before.text] : []);
  return Object.assign(one, { place, all: [one.prompt, one.expected].concat(said, Object.values(one.fields)).join("\n").toLowerCase() });
});

const rank = (one, lowest) => (one.said.mark === null ? lowest : one.said.mark);
const worst = data.lower ? -1 : 1;
const ORDERS = data.pair
  ? {
      "flipped first": (a, b) => a.place - b.place,
      "gained first": (a, b) => (b.change ?? -Infinity) - (a.change ?? -Infinity),
      "lost first": (a, b) => (a.change ?? Infinity) - (b.change ?? Infinity),
      "longest question first": (a, b) => b.prompt.length - a.prompt.length,
    }
  : {
      "as asked": (a, b) => a.place - b.place,
      "worst first": (a, b) => worst * (rank(a, worst * Infinity) - rank(b, worst * Infinity)) || a.place - b.place,
      "best first": (a, b) => worst * (rank(b, -worst * Infinity) - rank(a, -worst * Infinity)) || a.place - b.place,
      "least sure first": (a, b) => (a.said.probability ?? 2) - (b.said.probability ?? 2) || a.place - b.place,
      "longest question first": (a, b) => b.prompt.length - a.prompt.length,
      "longest answer first": (a, b) => b.said.text.length - a.said.text.length,
    };

function option(select, value, text) {
  const node = made("option", "", text);
  node.value = value;
  select.append(node);
}

function tools() {
  const counts = new Map();
  const slices = new Map();
  for (const one of answers) {
    counts.set(one.verdict, (counts.get(one.verdict) || 0) + 1);
    for (const [name, value] of Object.entries(one.fields)) {
      const key = name + "=" + value;
      slices.set(key, (slices.get(key) || 0) + 1);
    }
  }
  const kinds = [["", answers.length]].concat([...counts].sort((a, b) => b[1] - a[1]));
  for (const [kind, count] of kinds.length > 2 ? kinds : []) {
    const button = made("button", "", (kind || "all") + " " + count.toLocaleString("en"));
    button.type = "button";
    button.setAttribute("aria-pressed", String(kind === ""));
    button.addEventListener("click", () => {
      for (const other of at("verdicts").children) other.setAttribute("aria-pressed", String(other === button));
      change({ verdict: kind });
    });
    at("verdicts").append(button);
  }
  option(at("slice"), "", "every slice");
  const few = [...slices].filter(([, count]) => count > 1).sort((a, b) => (a[0] < b[0] ? -1 : 1)).slice(0, 300);
  for (const [key, count] of few) option(at("slice"), key, short(key).slice(0, 60) + " (" + count.toLocaleString("en") + ")");
  at("slice").hidden = few.length === 0;
  for (const name of Object.keys(ORDERS)) option(at("order"), name, name);
  state.order = Object.keys(ORDERS)[0];
  at("find").addEventListener("input", (event) => change({ find: event.target.value.toLowerCase() }));
  at("slice").addEventListener("change", (event) => change({ slice: event.target.value }));
  at("order").addEventListener("change", (event) => change({ order: event.target.value }));
  at("back").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
}

function line(list, name, text, kind) {
  if (text === "" || text === undefined || text === null) return;
  list.append(made("dt", "", name), made("dd", kind || "", text));
}
function spoken(list, name, said) {
  line(list, name, said.text || "(nothing)");
  const marks = Object.entries(said.marks).map(([metric, mark]) => metric + " " + number(mark)).join(", ");
  line(list, "marks", marks || "none", "soft");
  if (said.probability !== null) line(list, "how sure", number(said.probability), "soft");
  for (const [note, text] of Object.entries(said.notes)) line(list, note.replace(/_/g, " "), text, "soft");
  said.samples.forEach((sample, place) => {
    line(list, "sample " + (place + 1) + ", mark " + number(sample.mark), sample.answered || "(nothing)");
    for (const [note, text] of Object.entries(sample.notes)) line(list, note.replace(/_/g, " "), text, "soft");
  });
}
function body(one) {
  const list = made("dl", "body");
  line(list, "asked", one.prompt);
  line(list, "expected", one.expected);
  if (one.before) {
    spoken(list, "baseline said", one.before);
    spoken(list, "challenger said", one.said);
  } else spoken(list, "said", one.said);
  for (const [name, value] of Object.entries(one.fields)) line(list, name, value, "soft");
  line(list, "row", one.row, "soft");
  return list;
}
function entry(one) {
  const whole = made("details", "answer");
  const head = made("summary");
  const chip = made("span", "chip " + one.verdict.split(" ").pop(), one.verdict === "marked" ? number(one.said.mark) : one.verdict);
  if (data.pair && one.change !== null) chip.textContent = one.verdict + " " + (one.change ? signed(one.change) : "");
  const mark = made("span");
  mark.append(chip);
  const second = data.pair ? one.before.text : one.expected;
  head.append(mark);
  [one.prompt, second, one.said.text].forEach((text, place) => {
    const cell = made("span", "cut", short(text));
    if (place) cell.dataset.name = COLUMNS[place + 1];
    head.append(cell);
  });
  whole.append(head);
  whole.addEventListener("toggle", () => whole.children.length === 1 && whole.append(body(one)));
  return whole;
}

function kept() {
  const found = answers.filter(
    (one) =>
      (!state.verdict || one.verdict === state.verdict) &&
      (!state.find || one.all.includes(state.find)) &&
      (!state.slice || Object.entries(one.fields).some(([name, value]) => name + "=" + value === state.slice)),
  );
  return found.sort(ORDERS[state.order]);
}
function show() {
  const found = kept();
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  state.page = Math.min(Math.max(0, state.page), pages - 1);
  const list = made("div");
  const head = made("div", "head");
  for (const name of COLUMNS) head.append(made("span", "", name));
  list.append(head);
  for (const one of found.slice(state.page * PAGE, (state.page + 1) * PAGE)) list.append(entry(one));
  at("list").replaceChildren(list);
  at("found").textContent = found.length.toLocaleString("en") + " of " + answers.length.toLocaleString("en") + " answers";
  at("page").textContent = "page " + (state.page + 1) + " of " + pages;
  at("back").disabled = state.page === 0;
  at("next").disabled = state.page === pages - 1;
}
function change(what) {
  Object.assign(state, what, { page: 0 });
  show();
}
function turn(by) {
  state.page += by;
  show();
  at("answers").scrollIntoView();
}

tools();
show();
