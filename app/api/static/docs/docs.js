// Shows /openapi.json and lets a reader try each operation; needs nothing from elsewhere.
"use strict";

const element = (tag, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
};

let description;

const resolve = (schema = {}) => {
  if (schema.$ref) return resolve(description.components.schemas[schema.$ref.split("/").pop()]);
  const inner = schema.allOf || schema.anyOf || schema.oneOf;
  return inner ? { ...resolve(inner[0]), ...schema, $ref: undefined } : schema;
};

const kind = (schema) => {
  const found = resolve(schema);
  if (found.enum) return found.enum.join(" | ");
  if (found.type === "array") return `list of ${kind(found.items)}`;
  return found.format || found.type || "any";
};

const example = (schema, depth = 0) => {
  const found = resolve(schema);
  if (found.default !== undefined && found.default !== null) return found.default;
  if (found.enum) return found.enum[0];
  if (found.type === "array") return depth > 3 ? [] : [example(found.items, depth + 1)];
  if (found.type === "object") {
    const entries = Object.entries(found.properties || {});
    return Object.fromEntries(entries.map(([name, inner]) => [name, example(inner, depth + 1)]));
  }
  return { integer: Math.max(1, found.minimum || 1), number: 1, boolean: false, string: "" }[found.type] ?? null;
};

const fieldTable = (schema, prefix = "", rows = []) => {
  const found = resolve(schema);
  const required = new Set(found.required || []);
  for (const [name, inner] of Object.entries(found.properties || {})) {
    const whole = resolve(inner);
    rows.push(element("tr", {},
      element("td", {}, element("code", { textContent: prefix + name })),
      element("td", { textContent: kind(inner) }),
      element("td", { textContent: required.has(name) ? "required" : "" }),
      element("td", { textContent: whole.description || "" })));
    const nested = whole.type === "array" ? resolve(whole.items) : whole;
    if (nested.properties && prefix.length < 40) fieldTable(nested, `${prefix}${name}${whole.type === "array" ? "[]" : ""}.`, rows);
  }
  return rows;
};

const table = (rows) => rows.length
  ? element("table", {}, element("tbody", {}, ...rows))
  : element("p", { textContent: "nothing" });

const credentials = () => JSON.stringify(Object.fromEntries(new FormData(document.getElementById("caller"))));

const send = async (method, path, text, output) => {
  const options = { method, headers: { "X-Bkapi-Authorization": credentials() } };
  let url = path;
  try {
    const asked = JSON.parse(text || "{}");
    url = path.replace(/{(\w+)}/g, (_, name) => {
      const value = asked[name];
      delete asked[name];
      return encodeURIComponent(value ?? "");
    });
    if (method === "GET") {
      const flat = Object.entries(asked).map(([k, v]) => [k, typeof v === "object" ? JSON.stringify(v) : v]);
      url += `?${new URLSearchParams(flat)}`;
    } else {
      options.body = JSON.stringify(asked);
      options.headers["Content-Type"] = "application/json";
    }
    const answer = await fetch(url, options);
    const said = await answer.text();
    let shown = said;
    try { shown = JSON.stringify(JSON.parse(said), null, 2); } catch { /* not JSON: as it is */ }
    output.textContent = `HTTP ${answer.status}\n${shown}`;
  } catch (error) {
    output.textContent = String(error);
  }
};

const operationView = (path, method, operation) => {
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  const answer = operation.responses["200"]?.content?.["application/json"]?.schema;
  const inPath = Object.fromEntries((operation.parameters || []).filter((p) => p.in === "path").map((p) => [p.name, 1]));
  const query = (operation.parameters || []).filter((p) => p.in === "query");
  const input = { properties: Object.fromEntries(query.map((p) => [p.name, p.schema || p.content["application/json"].schema])), type: "object",
    required: query.filter((p) => p.required).map((p) => p.name) };
  const takes = body || input;
  const needed = { ...resolve(takes), properties: Object.fromEntries(Object.entries(resolve(takes).properties || {})
    .filter(([name]) => (resolve(takes).required || []).includes(name))) };
  const text = element("textarea", { value: JSON.stringify({ ...inPath, ...example({ ...needed, type: "object" }) }, null, 2) });
  const output = element("pre", { textContent: "" });
  const button = element("button", { textContent: "Try it", type: "button",
    onclick: () => send(method.toUpperCase(), path, text.value, output) });
  const view = element("details", {},
    element("summary", {},
      element("b", { className: method, textContent: method.toUpperCase() }),
      element("code", { textContent: path }),
      element("span", { textContent: operation.summary || "" })));
  view.addEventListener("toggle", () => {
    if (view.childElementCount > 1) return;
    view.append(element("div", { className: "body" },
      element("p", { textContent: operation.description || "" }),
      element("h4", { textContent: "Takes" }), table(fieldTable(takes)),
      element("h4", { textContent: "Gives" }), table(fieldTable(answer || {})),
      element("h4", { textContent: "Try it" }), text, button, output));
  });
  view.dataset.words = `${path} ${operation.summary || ""}`.toLowerCase();
  return view;
};

const show = async () => {
  description = await (await fetch("/openapi.json")).json();
  document.getElementById("introduction").textContent = description.info.description || "";
  const groups = new Map();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = (operation.tags || ["Other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operationView(path, method, operation));
    }
  }
  const main = document.getElementById("operations");
  main.replaceChildren(...[...groups].map(([tag, views]) =>
    element("section", {}, element("h2", { textContent: tag }), ...views)));
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const view of main.querySelectorAll("details")) view.hidden = !view.dataset.words.includes(wanted);
  });
};

show().catch((error) => { document.getElementById("operations").textContent = String(error); });
