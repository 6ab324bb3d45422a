// Whatever a model or a page has said is text here: nodes are made one by one, never from markup.

const main = document.getElementById("main");
const notice = document.getElementById("notice");
const OVER = ["completed", "failed", "cancelled"];
const TONE = {
  verified: "good", repaired: "good", accepted: "good", corrected: "good", completed: "good",
  unverified: "doubt", conflict: "doubt", outdated: "doubt", paused: "doubt", skipped: "doubt",
  failed: "bad", rejected: "bad", cancelled: "bad",
};
const PAGE = 50;
let leave = () => {};

// --- nodes ---------------------------------------------------------------------------------

function el(name, given = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function badge(word) {
  return el("span", { class: `badge ${TONE[word] ?? ""}` }, word);
}

function source(url) {
  let parsed = null;
  try { parsed = new URL(url); } catch { /* no address */ }
  if (parsed === null || !["http:", "https:"].includes(parsed.protocol)) return text(url);
  const where = { href: parsed.href, target: "_blank", rel: "noopener noreferrer" };
  return el("a", where, parsed.hostname + (parsed.pathname === "/" ? "" : parsed.pathname));
}

function text(value) {
  if (value === null || value === undefined || value === "") return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function money(amount) {
  if (amount === null || amount === undefined) return "unknown";
  const [whole, digits = ""] = plainNumber(amount).split(".");
  return `$${whole}.${digits.replace(/0+$/, "").slice(0, 6).padEnd(2, "0")}`;
}

function plainNumber(amount) {
  return /e/i.test(String(amount)) ? Number(amount).toFixed(12) : String(amount);
}

function span(seconds) {
  if (seconds === null) return "–";
  if (seconds < 90) return `about ${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min`;
  return `about ${(seconds / 3600).toFixed(1)} h`;
}

function moment(iso) {
  return iso ? new Date(iso).toLocaleString() : "–";
}

function say(words, isBad = false) {
  notice.textContent = words;
  notice.classList.toggle("bad", isBad);
}

// --- the server ----------------------------------------------------------------------------

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const answer = await fetch(`enrichment/${path}`, options);
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.detail ?? `the server answered ${answer.status}`);
  return said;
}

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    say(error.message, true);
    return undefined;
  }
}

const at = (jobId, more = "") => `jobs/${encodeURIComponent(jobId)}${more}`;

// --- jobs ----------------------------------------------------------------------------------

async function showJobs(alive) {
  const { jobs } = await ask("jobs?limit=100");
  if (!alive()) return;
  if (jobs.length === 0) {
    show("Jobs", el("p", { class: "quiet" },
      "There are no jobs yet. Send a table to POST /enrichment/jobs, or run llm-common enrich."));
    return;
  }
  const head = ["Job", "Status", "Rows"].map((name) => el("th", { scope: "col" }, name));
  const wide = ["Wanted", "Submitted"].map((n) => el("th", { scope: "col", class: "wide" }, n));
  show("Jobs", table("Jobs", [...head, ...wide], jobs.map(jobLine)));
}

function jobLine(job) {
  const wanted = job.columns.map((column) => column.name).join(", ");
  return el("tr", {},
    el("th", { scope: "row" }, el("a", { href: `#/jobs/${encodeURIComponent(job.job_id)}` }, job.job_id)),
    el("td", {}, badge(job.status)),
    el("td", { class: "number" }, text(job.total)),
    el("td", { class: "wide" }, wanted),
    el("td", { class: "wide" }, moment(job.created_at)));
}

function table(label, head, lines) {
  return el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
    el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...lines)));
}

// --- one job -------------------------------------------------------------------------------

async function showJob(alive, jobId) {
  const job = await ask(at(jobId));
  if (!alive()) return;
  const progress = progressPanel(job);
  const rows = rowsPanel(job);
  show(`Job ${jobId}`, progress.node, el("h2", {}, "Rows"), rows.node);
  let events = null;
  const follow = () => {
    events?.close();
    events = new EventSource(`enrichment/${at(jobId, "/events")}`);
    events.onmessage = ({ data }) => {
      const now = JSON.parse(data);
      progress.update(now);
      rows.load();
      // A stream that has ended would be asked for again and again.
      if (OVER.includes(now.status)) events.close();
    };
  };
  progress.onaction = follow;
  leave = () => events?.close();
  follow();
  await rows.load();
}

function progressPanel(job) {
  const panel = { onaction: () => {} };
  const bar = el("progress", { max: "100", value: "0", "aria-label": "Rows completed, in percent" });
  const line = el("p", {}, "Loading …");
  const spoken = el("p", { class: "aside", "aria-live": "polite" });
  const figures = el("dl", { class: "figures" });
  const buttons = Object.fromEntries(["pause", "resume", "cancel", "retry"].map((name) => {
    const words = { pause: "Pause", resume: "Resume", cancel: "Cancel", retry: "Retry failed rows" };
    return [name, el("button", { type: "button", onclick: () => act(name) }, words[name])];
  }));
  const files = ["csv", "xlsx", "parquet", "jsonl"].map((kind) => el("a", {
    href: `enrichment/${at(job.job_id, `/result?partial=true&format=${kind}`)}`, download: "",
  }, kind.toUpperCase()));

  async function act(name) {
    await attempt(async () => {
      const now = await ask(at(job.job_id, `/${name}`), {});
      say(`The job is ${now.status}.`);
      panel.onaction();
    });
  }

  panel.update = (now) => {
    const { total, completed, failed, skipped, percent } = now.progress;
    bar.value = percent;
    line.replaceChildren(badge(now.status), ` ${completed} of ${total} rows, ${percent} %`);
    // Whoever listens to the page hears of every tenth, not of every row.
    const step = `The job is ${now.status}: ${Math.floor(percent / 10) * 10} % of ${total} rows.`;
    if (spoken.textContent !== step) spoken.textContent = step;
    const told = {
      Completed: completed, Failed: failed, Skipped: skipped,
      Rate: `${now.rate.toFixed(1)} rows/s`, Left: span(now.eta_s),
      Spend: money(now.spend_usd) + (now.unpriced ? ` + ${now.unpriced} unpriced` : ""),
    };
    figures.replaceChildren(...Object.entries(told).map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
    // Nobody may be at a job whose process has died.
    const isOld = Date.now() - Date.parse(now.started_at) > 60_000;
    const isIdle = now.status === "running" && now.rate === 0 && isOld;
    buttons.pause.disabled = !["pending", "running"].includes(now.status);
    buttons.cancel.disabled = !["pending", "running", "paused"].includes(now.status);
    buttons.resume.disabled = !(["pending", "paused", "cancelled", "failed"].includes(now.status) || isIdle);
    buttons.retry.hidden = !(failed > 0 && ["completed", "failed"].includes(now.status));
  };
  const budget = job.budget_usd === null ? "no budget" : `budget ${money(job.budget_usd)}`;
  panel.node = el("section", { class: "sheet", "aria-label": "Progress" },
    bar, line, spoken, figures,
    el("div", { class: "bar" }, ...Object.values(buttons)),
    el("p", { class: "bar small quiet" }, `Submitted ${moment(job.created_at)}, ${budget}. Download:`, ...files,
      el("a", { href: `#/reviews/${encodeURIComponent(job.job_id)}` }, "Review queue")));
  return panel;
}

function rowsPanel(job) {
  let after = 0;
  let next = null;
  let asked = 0;
  const open = new Set();
  const shown = new Map();
  const columns = job.columns.map((column) => column.name);
  const head = ["Row", "Status"].map((name) => el("th", { scope: "col" }, name));
  head.push(...columns.map((name) => el("th", { scope: "col", class: "wide" }, name)));
  head.push(el("th", { scope: "col" }, "Evidence"));
  const body = el("tbody");
  const where = el("span", { class: "quiet small" });
  const turn = (to) => () => { after = to(); shown.clear(); body.replaceChildren(); load(); };
  const back = el("button", { type: "button", onclick: turn(() => Math.max(0, after - PAGE)) }, "Previous");
  const onward = el("button", { type: "button", onclick: turn(() => next ?? after) }, "Next");

  async function load() {
    const mine = ++asked;
    const found = await attempt(() => ask(at(job.job_id, `/rows?after=${after}&limit=${PAGE}`)));
    if (found === undefined || mine !== asked) return;
    next = found.next;
    // What has not changed stays, and with it the focus.
    found.rows.forEach((row, index) => place(row, index));
    where.textContent = found.rows.length ? `${after + 1} to ${after + found.rows.length}` : "No rows.";
    back.disabled = after === 0;
    onward.disabled = next === null;
  }

  function place(row, index) {
    const known = JSON.stringify(row);
    const old = shown.get(row.row_id);
    if (old?.known === known) return;
    const line = rowLine(row, after + index + 1);
    if (old) {
      const hadFocus = old.line.contains(document.activeElement);
      old.detail.replaceWith(line.detail);
      old.line.replaceWith(line.line);
      if (hadFocus) line.button.focus();
    } else {
      body.append(line.line, line.detail);
    }
    shown.set(row.row_id, { ...line, known });
  }

  function rowLine(row, number) {
    const id = `row-${number}`;
    const settled = columns.filter((name) => isSettled(row.cells[name]));
    const name = job.keys.map((key) => text(row.original_data[key])).join(", ");
    const detail = el("tr", { id, class: "open", hidden: !open.has(row.row_id) });
    const button = el("button", {
      type: "button", class: "plain", "aria-expanded": String(open.has(row.row_id)), "aria-controls": id,
      "aria-label": `Evidence for ${name}`,
    }, `${settled.length} of ${columns.length}`);
    const fill = () => {
      if (!detail.hidden) detail.replaceChildren(el("td", { colspan: columns.length + 3 }, rowDetail(row, columns)));
    };
    button.addEventListener("click", () => {
      detail.hidden = !detail.hidden;
      button.setAttribute("aria-expanded", String(!detail.hidden));
      if (detail.hidden) open.delete(row.row_id); else open.add(row.row_id);
      fill();
    });
    fill();
    const line = el("tr", {},
      el("th", { scope: "row" }, el("span", { class: "quiet small" }, `${number} `), name),
      el("td", {}, badge(row.status)),
      ...columns.map((column) => el("td", { class: "wide" }, text(row.enriched_columns[column]))),
      el("td", {}, button));
    return { line, detail, button };
  }

  const node = el("div", {},
    el("div", { class: "scroll", role: "region", "aria-label": "Rows", tabindex: "0" },
      el("table", {}, el("thead", {}, el("tr", {}, ...head)), body)),
    el("div", { class: "bar" }, back, onward, where));
  return { node, load };
}

function isSettled(cell) {
  return ["verified", "repaired", "accepted", "corrected"].includes(cell?.verdict);
}

function rowDetail(row, columns) {
  const cells = columns.filter((name) => row.cells[name]).map((name) => cellSheet(name, row.cells[name], "h3"));
  const error = row.error ? el("p", {}, row.error) : null;
  const nothing = cells.length || error ? null : el("p", { class: "quiet" }, "Nothing was found yet.");
  const cost = el("p", { class: "small quiet" },
    `This row: ${money(row.metadata.cost_usd)}, ${row.metadata.pages_read} pages read.`);
  return el("div", {}, error, nothing, el("div", { class: "cells" }, ...cells), cost);
}

function cellSheet(name, cell, heading) {
  return el("article", { class: "sheet" },
    el(heading, {}, name, " ", badge(cell.verdict)),
    el("p", { class: "value" }, text(cell.value)),
    ...proof(cell),
    el("p", { class: "small quiet" },
      `Confidence ${Math.round((cell.confidence ?? 0) * 100)} %, cost ${money(cell.cost_usd)}.`));
}

function proof(cell) {
  const found = [];
  if (cell.quote) found.push(el("blockquote", {}, cell.quote));
  if (cell.url) found.push(el("p", { class: "small" }, "Source: ", source(cell.url)));
  if (cell.reason) found.push(el("p", { class: "small quiet" }, cell.reason));
  if (cell.conflicts?.length) {
    found.push(el("p", { class: "small" }, "Also found:"));
    found.push(el("ul", { class: "conflicts small" }, ...cell.conflicts.map(conflict)));
  }
  return found;
}

function conflict(one) {
  return el("li", {}, el("strong", {}, text(one.value)), " ", badge(one.verdict),
    one.dated ? ` ${one.dated}` : null,
    one.quote ? el("blockquote", {}, one.quote) : null,
    one.url ? source(one.url) : null,
    one.reason ? el("span", { class: "quiet" }, ` ${one.reason}`) : null);
}

// --- the review queue ----------------------------------------------------------------------

async function showReviews(alive, jobId) {
  const list = el("ul", { class: "plain" });
  const more = el("button", { type: "button", hidden: true, onclick: () => attempt(load) }, "More");
  const jobs = new Map();
  let after = 0;

  const jobOf = (id) => {
    // The queue is the project's: a doubt may be that of another kind of job.
    if (!jobs.has(id)) jobs.set(id, ask(at(id)).catch(() => ({ keys: [], columns: [] })));
    return jobs.get(id);
  };

  async function load() {
    const of = jobId ? `&job_id=${encodeURIComponent(jobId)}` : "";
    const found = await ask(`reviews?state=open&limit=${PAGE}&after=${after}${of}`);
    const cards = await Promise.all(found.reviews.map(async (one) => reviewCard(one, await jobOf(one.job_id))));
    list.append(...cards);
    after = found.next ?? after;
    more.hidden = found.next === null;
    empty();
  }

  function empty() {
    if (!list.children.length && more.hidden) {
      list.replaceChildren(el("li", { class: "quiet" }, "Nothing waits for a decision."));
    }
  }

  function reviewCard(review, job) {
    const card = el("li", { class: "sheet" });
    const column = job.columns.find((one) => one.name === review.field);
    const name = job.keys.map((key) => text(review.row[key])).join(", ") || review.unit_key;
    const right = column?.choices.length
      ? el("select", { name: "value" }, ...column.choices.map((one) => el("option", { value: one }, one)))
      : el("input", { name: "value", required: true, autocomplete: "off" });
    const note = el("input", { name: "note", autocomplete: "off" });

    async function decide(action, body) {
      await attempt(async () => {
        await ask(`reviews/${encodeURIComponent(review.id)}/${action}`, { ...body, note: note.value || null });
        const neighbour = card.nextElementSibling ?? card.previousElementSibling;
        card.remove();
        say(`${review.field} of ${name}: ${action === "correct" ? "corrected" : `${action}ed`}.`);
        (neighbour?.querySelector("button:not(:disabled)") ?? main).focus();
        empty();
      });
    }

    card.append(
      el("h2", {}, `${review.field} of ${name}`),
      el("p", { class: "value" }, text(review.value)),
      ...proof({ ...review.details, reason: review.reason }),
      el("form", { onsubmit: (event) => { event.preventDefault(); decide("correct", { value: right.value }); } },
        el("button", {
          type: "button", class: "main", disabled: review.value === null, onclick: () => decide("accept", {}),
        }, "Accept"),
        el("button", { type: "button", onclick: () => decide("reject", {}) }, "Reject"),
        el("label", {}, "Right value", right),
        el("button", { type: "submit" }, "Correct"),
        el("label", {}, "Note", note)));
    return card;
  }

  await load();
  if (!alive()) return;
  const of = jobId ? el("p", {}, "Of ", el("a", { href: `#/jobs/${encodeURIComponent(jobId)}` }, `job ${jobId}`)) : null;
  show("Review", of, list, more);
}

// --- where one is --------------------------------------------------------------------------

function show(title, ...nodes) {
  document.title = `${title} · Enrichment`;
  main.replaceChildren(el("h1", {}, title), ...nodes.filter(Boolean));
}

let turns = 0;

async function go() {
  leave();
  leave = () => {};
  say("");
  const mine = ++turns;
  const alive = () => mine === turns;
  const [, section = "jobs", id = ""] = location.hash.split("/");
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${section}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  await attempt(async () => {
    const which = decodeURIComponent(id);
    if (section === "reviews") await showReviews(alive, which);
    else if (which) await showJob(alive, which);
    else await showJobs(alive);
  });
  if (mine > 1 && alive()) {
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", go);
go();
