"use strict";
// What stores say is put on the page as text: by textContent and setAttribute, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const MOST = 8;
  const SLOTS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"];
  const RUN = { seed: 0, started: 1, commit: 2, dirty: 3, values: 4, provenance: 5, command: 6, id: 7 };
  const AGAINST = { difference: 0, margin: 1, p: 2, equal: 3, needed: 4 };
  const CELL = { mean: 0, margin: 1, text: 2, spread: 3, best: 4 };
  const $ = (id) => document.getElementById(id);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");
  const state = { board: null, picks: [], sort: { key: "rank", down: false }, filter: "", group: "", only: false, all: false };
  const views = new Map();

  // ---- ground -------------------------------------------------------------------------------------------------

  function h(tag, attributes, ...children) {
    const found = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
      else if (value === true) found.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) found.setAttribute(name, value);
    }
    found.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return found;
  }
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const measure = (key) => data.measures[key] || { title: key, meaning: "", unit: "", better: 0 };
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4);
  const probability = (p) => (p === null || p === undefined ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
  const say = (text) => { $("status").textContent = text; };
  const column = (key) => state.board.columns.indexOf(key);
  const cell = (row, key) => (column(key) < 0 ? null : row.cells[column(key)]);
  const isMissing = (value) => value === null || value === undefined;

  function fill(options, select, chosen) {
    select.replaceChildren(...options.map(([value, words]) => h("option", { value }, words)));
    if (options.some(([value]) => String(value) === String(chosen))) select.value = chosen;
  }

  // ---- what is picked -----------------------------------------------------------------------------------------

  function colour(index) {
    const pick = state.picks.find((one) => one.row === index);
    if (!pick) return css("--dim");
    return pick.slot < 0 ? css("--ink") : css(SLOTS[pick.slot]);
  }
  const isPicked = (index) => state.picks.some((one) => one.row === index);

  function pick(index) {
    if (isPicked(index)) return;
    if (state.picks.length >= MOST) {
      say(`At most ${MOST} strategies are compared at once: remove one first.`);
      return;
    }
    const taken = new Set(state.picks.map((one) => one.slot));
    // The baseline has the colour of the text, the first one of several.
    const baseline = state.board.rows[index].baseline && !taken.has(-1);
    const slot = baseline ? -1 : SLOTS.findIndex((_, number) => !taken.has(number));
    state.picks.push({ row: index, slot });
  }

  function toggle(index) {
    const name = state.board.rows[index].name;
    if (isPicked(index)) {
      state.picks = state.picks.filter((one) => one.row !== index);
      say(`${name} removed, ${state.picks.length} picked`);
    } else {
      const before = state.picks.length;
      pick(index);
      if (state.picks.length > before) say(`${name} picked, ${state.picks.length} in all`);
    }
    afterPicks();
  }

  function usualPicks() {
    state.picks = [];
    const rows = state.board.rows;
    const baseline = rows.findIndex((row) => row.baseline);
    if (baseline >= 0) pick(baseline);
    // Some are left for the reader to pick.
    state.board.drawn.slice(0, 6).forEach(pick);
    state.picks.sort((a, b) => a.row - b.row);
  }

  // ---- board --------------------------------------------------------------------------------------------------

  function show(board, picks) {
    state.board = board;
    state.sort = { key: "rank", down: false };
    state.filter = $("filter").value = "";
    state.only = $("only").checked = false;
    state.group = "";
    const groups = [...new Set(board.rows.map((row) => row.group))];
    fill([["", "all kinds"], ...groups.map((group) => [group, group])], $("group"), "");
    $("group").hidden = groups.length < 2;
    document.title = `${board.label} – Leaderboards`;
    $("label").textContent = board.label;
    const fields = new Map(board.protocol);
    const facts = [
      [board.synthetic ? "synthetic images" : "real images", board.synthetic ? "warn" : ""],
      [`${fields.get("megabatches")} megabatches`],
      [fields.get("model")],
      [fields.has("epochs") ? `${fields.get("epochs")} epochs` : null],
      [fields.has("replay") ? `replay ${fields.get("replay")}` : null],
      [`${board.rows.length} strategies`],
      [`${board.runs} runs`],
      [board.seeds.length > 6 ? `${board.seeds.length} seeds` : `seeds ${board.seeds.join(", ")}`],
      [fields.has("protocol_version") ? `protocol ${fields.get("protocol_version")}` : null],
    ];
    $("facts").replaceChildren(...facts.filter(([words]) => words).map(([words, kind]) => h("li", { class: kind }, words)));
    const warnings = [];
    if (board.synthetic) warnings.push("Stand-in images, made by a program: not to be compared with results on real ones.");
    if (board.olderProtocol !== null) warnings.push(`Protocol version ${board.olderProtocol}, an earlier one: not to be compared with boards of later versions.`);
    if (board.outdated) warnings.push(`Left out: ${board.outdated} runs of earlier versions of a strategy or of a part of one.`);
    $("warnings").textContent = warnings.join(" ");
    $("warnings").hidden = !warnings.length;
    usualPicks();
    if (picks && picks.length) {
      state.picks = [];
      picks.filter((index) => index in board.rows).forEach(pick);
    }
    fill(board.curves, $("curves-of"), "test/accuracy");
    const fronts = board.fronts;
    const unique = (words) => [...new Set(words)].map((key) => [key, measure(key).title]);
    fill(unique(fronts.map((one) => one.cost)), $("pareto-x"), "bytes");
    fill(unique(fronts.map((one) => one.merit)), $("pareto-y"), "cer_rate");
    fill(board.eachRun.filter((key) => board.rows.some((row) => row.runs.some((run) => run[RUN.values][board.eachRun.indexOf(key)]))).map((key) => [key, measure(key).title]), $("dots-of"), "cer_rate");
    $("columns").replaceChildren(...board.columns.flatMap((key) => [h("dt", {}, measure(key).title), h("dd", {}, `${measure(key).meaning}${measure(key).better ? (measure(key).better < 0 ? "; lower is better" : "; higher is better") : ""}`)]));
    $("protocol").replaceChildren(...[...board.protocol, ["images", board.images]].flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    $("provenance").replaceChildren(
      h("dt", {}, "Runs started"), h("dd", {}, `${board.started[0]} to ${board.started[1]} UTC`),
      ...board.provenance.flatMap(([name, values]) => [h("dt", {}, name), h("dd", {}, values.join(", "))]));
    const legend = ["Mean ± half the width of the 95 % t interval over seeds; bold is the best of its column, and what a paired t test does not tell apart from it (Holm-corrected over all rows)."];
    if (board.rows.some((row) => row.commits > 1)) legend.push("† Runs of several commits of the code.");
    if (board.rows.some((row) => row.emptied.length)) legend.push("∅ Whole layers have no weight left in some seeds.");
    $("legend").textContent = legend.join(" ");
    say("");
    afterPicks();
  }

  function afterPicks() {
    drawPicks();
    drawTable();
    drawCharts();
    drawComparison();
    const hash = `#${encodeURIComponent(state.board.id)}:${state.picks.map((one) => one.row).join(",")}`;
    try { history.replaceState(null, "", hash); } catch { /* An address that cannot be changed is none to share. */ }
  }

  function drawPicks() {
    const chips = state.picks.map(({ row }) => {
      const name = state.board.rows[row].name;
      return h("li", {}, h("span", { class: "swatch", style: `--own:${colour(row)}` }),
        h("button", { class: "name", type: "button", onclick: () => openDetail(row) }, name),
        h("button", { class: "remove", type: "button", "aria-label": `Remove ${name}`, onclick: () => toggle(row) }, "×"));
    });
    if (!chips.length) chips.push(h("li", { class: "muted plain" }, "Nothing is picked: tick rows of the table."));
    else if (chips.length > 1) chips.push(h("li", { class: "plain" }, h("button", { class: "link", type: "button", id: "clear", onclick: () => { state.picks = []; say("Nothing is picked"); afterPicks(); } }, "clear")));
    $("picks").replaceChildren(...chips);
  }

  // ---- table --------------------------------------------------------------------------------------------------

  const pKey = () => (state.board.compared.includes("cer_rate") ? "cer_rate" : state.board.compared[0]);

  function columns() {
    const { board } = state;
    const found = [{ key: "rank", title: "#", meaning: "place on the board", better: -1, value: (_, index) => index }];
    found.push({ key: "name", title: "Strategy", meaning: "opens its configuration and runs", better: -1, value: (row) => row.name.toLowerCase() });
    const keys = state.all ? board.columns : board.main;
    for (const key of keys) {
      found.push({ ...measure(key), key, value: (row) => { const one = cell(row, key); return one ? one[CELL.mean] : null; } });
      if (key === pKey() && board.rows.some((row) => row.against[key]))
        found.push({ key: "p", title: `p against ${data.baseline}`, meaning: `${measure(key).title}: paired t test over common seeds, Holm-corrected over the rows`, better: -1, value: (row) => (row.against[key] ? row.against[key][AGAINST.p] : null) });
      if (key === keys[0] && board.rows.some((row) => row.curves["test/accuracy"])) found.push({ key: "trend", title: "Trend", meaning: "test accuracy over the megabatches" });
    }
    // Where all rows have the same seeds, the head of the board says which.
    if (state.all || board.rows.some((row) => row.seeds !== board.rows[0].seeds)) found.push({ key: "seeds", title: "Seeds", meaning: "how many seeds", better: 1, value: (row) => row.seeds });
    return found;
  }

  function shownRows() {
    const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const { key, down } = state.sort;
    const by = columns().find((one) => one.key === key && one.value) || columns()[0];
    const found = state.board.rows.map((row, index) => ({ row, index, value: by.value(row, index) }))
      .filter(({ row, index }) => {
        if (state.only && !isPicked(index)) return false;
        if (state.group && row.group !== state.group) return false;
        const text = `${row.name} ${row.options.flat().join(" ")} ${row.group}`.toLowerCase();
        return words.every((word) => text.includes(word));
      });
    const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
    return found.sort((a, b) => isMissing(a.value) - isMissing(b.value) || order(a.value, b.value) || a.index - b.index);
  }

  function sortBy(one) {
    const first = one.better > 0;
    state.sort = state.sort.key === one.key ? { key: one.key, down: !state.sort.down } : { key: one.key, down: first };
    drawTable();
    say(`Sorted by ${one.title}, ${state.sort.down ? "descending" : "ascending"}`);
    const button = $("table").querySelector(`[data-sort="${CSS.escape(one.key)}"]`);
    if (button) button.focus();
  }

  // One scale for all rows of a board.
  function extent() {
    const all = state.board.rows.flatMap((row) => (row.curves["test/accuracy"] || [[], []])[1]).filter((value) => !isMissing(value));
    return all.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  }

  function trend(row, [low, high]) {
    const curve = row.curves["test/accuracy"];
    if (!curve) return "–";
    const [first, last] = [curve[0][0], curve[0][curve[0].length - 1]];
    const points = curve[0].map((step, number) => [2 + 68 * (last > first ? (step - first) / (last - first) : 0.5), 20 - 18 * (high > low ? (curve[1][number] - low) / (high - low) : 0.5)]);
    const image = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const end = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [name, value] of [["viewBox", "0 0 74 22"], ["class", "trend"], ["aria-hidden", "true"]]) image.setAttribute(name, value);
    line.setAttribute("points", points.map((point) => point.map((value) => value.toFixed(1)).join(",")).join(" "));
    const [x, y] = points[points.length - 1];
    for (const [name, value] of [["cx", x.toFixed(1)], ["cy", y.toFixed(1)], ["r", 2]]) end.setAttribute(name, value);
    image.append(line, end);
    return image;
  }

  function drawTable() {
    const shown = shownRows();
    const all = columns();
    const scale = extent();
    const heads = all.map((one) => {
      if (!one.value) return h("th", { scope: "col", class: one.key, title: one.meaning }, one.title);
      const sorted = state.sort.key === one.key ? (state.sort.down ? "descending" : "ascending") : "none";
      return h("th", { scope: "col", class: one.key === "name" || one.key === "rank" ? one.key : "number", "aria-sort": sorted },
        h("button", { type: "button", "data-sort": one.key, title: one.meaning, onclick: () => sortBy(one) }, one.title, h("span", { class: "arrow", "aria-hidden": "true" })));
    });
    const body = shown.map(({ row, index }) => {
      const cells = all.map((one) => {
        if (one.key === "rank") return h("td", { class: "rank" }, String(index + 1));
        if (one.key === "name") return h("th", { scope: "row", class: "name" }, h("div", {},
          h("input", { type: "checkbox", id: `pick-${index}`, "data-pick": index, "aria-label": `Pick ${row.name}`, checked: isPicked(index), style: `--own:${colour(index)}`, onchange: (event) => { toggle(index); event.target.checked = isPicked(index); refocus(`pick-${index}`); } }),
          h("button", { type: "button", class: "link", "data-row": index, onclick: () => openDetail(index) }, row.name),
          row.commits > 1 ? h("span", { class: "mark", title: "runs of several commits" }, " †") : null,
          row.emptied.length ? h("span", { class: "mark", title: `whole layers have no weight left: seeds ${row.emptied.join(", ")}` }, " ∅") : null));
        if (one.key === "trend") return h("td", { class: "trend" }, trend(row, scale));
        if (one.key === "seeds") return h("td", { class: "number" }, String(row.seeds));
        if (one.key === "p") return h("td", { class: "number muted" }, probability(row.against[pKey()] && row.against[pKey()][AGAINST.p]));
        return h("td", { class: "number" }, value(cell(row, one.key)));
      });
      return h("tr", { class: isPicked(index) ? "picked" : "", style: isPicked(index) ? `--own:${colour(index)}` : null }, cells);
    });
    const old = $("table").scrollTop;
    $("table").replaceChildren(h("table", { class: "board" }, h("caption", { class: "hidden" }, `${state.board.label}: strategies and what they measured`), h("thead", {}, h("tr", {}, heads)), h("tbody", {}, body)));
    $("table").scrollTop = old;
    $("count").textContent = shown.length === state.board.rows.length ? `${shown.length} rows` : `${shown.length} of ${state.board.rows.length} rows`;
    if (!shown.length) $("table").append(h("p", { class: "muted none" }, "No row fits."));
  }

  const refocus = (id) => { const found = $(id); if (found) found.focus({ preventScroll: true }); };

  function value(one) {
    if (!one) return h("span", { class: "muted" }, "–");
    return h("span", { class: one[CELL.best] ? "best" : "" }, h("span", { class: "mean" }, one[CELL.text]), one[CELL.spread] ? h("span", { class: "spread" }, ` ± ${one[CELL.spread]}`) : null);
  }

  // ---- charts -------------------------------------------------------------------------------------------------

  function theme() {
    const axis = { labelColor: css("--muted"), titleColor: css("--muted"), gridColor: css("--line"), domainColor: css("--line"), tickColor: css("--line"), labelFontSize: 11, titleFontSize: 11, titleFontWeight: 500, domain: false, ticks: false, labelPadding: 6, titlePadding: 8 };
    return { background: "transparent", font: css("--font"), view: { stroke: null }, axis, rule: { color: css("--muted") }, text: { color: css("--ink") }, padding: { left: 2, right: 8, top: 6, bottom: 2 } };
  }

  function put(words, part) {
    if (typeof part === "string") return part in words ? words[part] : part;
    if (Array.isArray(part)) return part.map((one) => put(words, one));
    if (part && typeof part === "object") return Object.fromEntries(Object.entries(part).map(([name, one]) => [name, put(words, one)]));
    return part;
  }

  async function draw(id, words, sets, { height, tip, click, label, chart }) {
    const place = $(id);
    const specification = { ...put(words, charts[chart || id]), datasets: sets, description: label };
    if (height) specification.height = height;
    const turn = (views.get(id)?.turn || 0) + 1;
    views.set(id, { ...views.get(id), turn });
    hideTip();
    const made = document.createElement("div");
    made.className = "drawing";
    const before = views.get(id).result;
    if (before) before.finalize();
    place.replaceChildren(made);
    const result = await window.vegaEmbed(made, specification, { actions: false, renderer: "svg", ast: true, defaultStyle: false, config: theme(), tooltip: (_, event, item, said) => (said ? showTip(event, tip(item)) : hideTip()) });
    if (views.get(id).turn !== turn) { result.finalize(); return; }
    views.set(id, { turn, result });
    if (click) result.view.addEventListener("click", (_, item) => click(item));
  }

  function showTip(event, content) {
    const tip = $("tip");
    tip.replaceChildren(...[content].flat());
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = event.clientX + 16 + box.width > innerWidth ? event.clientX - 16 - box.width : event.clientX + 16;
    tip.style.left = `${Math.max(6, left)}px`;
    tip.style.top = `${Math.max(6, Math.min(event.clientY - box.height / 2, innerHeight - box.height - 6))}px`;
  }
  const hideTip = () => { $("tip").hidden = true; };
  const tipLine = (own, name, text) => h("div", { class: "tip-line" }, h("span", { class: "swatch", style: `--own:${own}` }), h("span", { class: "tip-name" }, name), h("b", {}, text));

  const digits = (number) => (isMissing(number) ? "–" : Math.abs(number) >= 1000 ? Math.round(number).toLocaleString("en") : Math.abs(number) >= 10 ? number.toFixed(1) : number.toFixed(4));

  function drawCurves() {
    const { board, picks } = state;
    const metric = $("curves-of").value;
    const title = (board.curves.find(([name]) => name === metric) || ["", ""])[1];
    const points = picks.flatMap(({ row, slot }) => {
      const curve = board.rows[row].curves[metric];
      if (!curve) return [];
      const own = { row, colour: colour(row), dash: slot < 0 ? [6, 4] : [1, 0] };
      return curve[0].map((step, number) => ({ ...own, step, mean: curve[1][number], low: curve[1][number] - (curve[2][number] || 0), high: curve[1][number] + (curve[2][number] || 0), margin: curve[2][number] }))
        .filter((one) => !isMissing(one.mean));
    });
    const steps = [...new Set(points.map((one) => one.step))].sort((a, b) => a - b);
    const at = (row, step) => points.find((one) => one.row === row && one.step === step);
    const text = (one) => (one ? digits(one.mean) + (isMissing(one.margin) ? "" : ` ± ${digits(one.margin)}`) : "–");
    $("curves-numbers").replaceChildren(h("table", { class: "plain" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Megabatch"), picks.map(({ row }) => h("th", { scope: "col", class: "number" }, board.rows[row].name)))),
      h("tbody", {}, steps.map((step) => h("tr", {}, h("th", { scope: "row" }, String(step)), picks.map(({ row }) => h("td", { class: "number" }, text(at(row, step)))))))));
    const best = (a, b) => (at(b.row, steps.at(-1))?.mean ?? 0) - (at(a.row, steps.at(-1))?.mean ?? 0);
    if (!points.length) return empty("curves", board.curves.length ? "Pick a strategy to see its curve." : "These records hold no values over the stream.");
    return draw("curves", { $Y: title }, { curves: points }, {
      label: `${title} over the megabatches, for ${picks.map(({ row }) => board.rows[row].name).join(", ")}`,
      tip: (item) => {
        // The pointer is nearest to the mark of a point.
        const { step } = item.datum.datum || item.datum;
        return [h("div", { class: "tip-head" }, `${title}, megabatch ${step}`), ...[...picks].sort(best).filter(({ row }) => at(row, step)).map(({ row }) => tipLine(colour(row), board.rows[row].name, text(at(row, step))))];
      },
    });
  }

  function drawPareto() {
    const { board } = state;
    const [cost, merit] = [$("pareto-x").value, $("pareto-y").value];
    const front = new Set((board.fronts.find((one) => one.cost === cost && one.merit === merit) || { rows: [] }).rows);
    const points = board.rows.map((row, index) => {
      const [x, y] = [cell(row, cost), cell(row, merit)];
      if (!x || !y || isMissing(x[0]) || isMissing(y[0])) return null;
      const own = isPicked(index);
      const around = (one) => [one[0] - ((own && one[1]) || 0), one[0] + ((own && one[1]) || 0)];
      return { row: index, x: x[0], y: y[0], left: around(x)[0], right: around(x)[1], low: around(y)[0], high: around(y)[1], name: row.name, front: front.has(index), colour: own ? colour(index) : css(front.has(index) ? "--muted" : "--dim"), size: own ? 110 : 46 };
    }).filter(Boolean);
    if (!points.length) return empty("pareto", "This board has no costs to compare.");
    const costs = points.map((one) => one.x);
    const wide = Math.min(...costs) > 0 && Math.max(...costs) / Math.min(...costs) > 8;
    points.forEach((one) => { if (wide && one.left <= 0) one.left = one.x; });
    const form = ["bytes", "FLOPs"].includes(measure(cost).unit) ? "~s" : "~g";
    const better = (key) => (measure(key).better < 0 || key === cost ? "lower is better" : "higher is better");
    const words = { $X: measure(cost).title + (wide ? " (log)" : ""), $Y: `${measure(merit).title}, ${better(merit)}`, $XFORM: form, $MUTED: css("--muted"), $SURFACE: css("--surface") };
    return draw("pareto", words, { pareto: points }, {
      chart: wide ? "pareto log" : "pareto",
      label: `${measure(merit).title} against ${measure(cost).title}, a point a strategy`,
      click: (item) => { if (item && item.datum && Number.isInteger(item.datum.row)) toggle(item.datum.row); },
      tip: (item) => {
        const index = item.datum.row;
        const row = board.rows[index];
        const line = (key) => h("div", { class: "tip-line" }, h("span", { class: "tip-name" }, measure(key).title), h("b", {}, value(cell(row, key))));
        return [h("div", { class: "tip-head" }, row.name), line(merit), line(cost), front.has(index) ? h("div", { class: "muted" }, "on the Pareto front") : null].filter(Boolean);
      },
    });
  }

  function drawDots() {
    const { board, picks } = state;
    const key = $("dots-of").value;
    const place = board.eachRun.indexOf(key);
    const dots = picks.flatMap(({ row }) => board.rows[row].runs.filter((run) => run[RUN.values][place] && !isMissing(run[RUN.values][place][0]))
      .map((run) => ({ row, seed: run[RUN.seed], value: run[RUN.values][place][0], text: run[RUN.values][place][1], colour: colour(row) })));
    const means = picks.map(({ row }) => {
      const one = cell(board.rows[row], key);
      return one && !isMissing(one[0]) ? { row, mean: one[0], low: one[0] - (one[1] || 0), high: one[0] + (one[1] || 0), colour: colour(row) } : { row, mean: null, low: null, high: null, colour: colour(row) };
    });
    const step = Math.max(34, Math.min(56, Math.floor(270 / picks.length)));
    $("dots-names").replaceChildren(...(dots.length ? picks.map(({ row }) => h("li", { style: `height:${step}px` }, board.rows[row].name)) : []));
    if (!dots.length) return empty("dots", "Pick a strategy to see its seeds.");
    $("dots").style.height = `${step * picks.length + 52}px`;
    return draw("dots", { $X: measure(key).title, $SURFACE: css("--surface") }, { dots, means }, {
      height: step * picks.length,
      label: `${measure(key).title}, a dot a seed, for ${picks.map(({ row }) => board.rows[row].name).join(", ")}`,
      tip: (item) => (item.datum && item.datum.text !== undefined ? [h("div", { class: "tip-head" }, board.rows[item.datum.row].name), tipLine(item.datum.colour, `seed ${item.datum.seed}`, item.datum.text)] : []),
    });
  }

  function empty(id, words) {
    const before = views.get(id);
    if (before && before.result) before.result.finalize();
    views.set(id, { turn: (before?.turn || 0) + 1 });
    $(id).replaceChildren(h("p", { class: "muted none" }, words));
  }

  // One after the other: whoever waits for the last knows that all are there.
  let drawing = Promise.resolve();
  function drawCharts() {
    drawing = drawing.then(async () => {
      await drawCurves();
      await drawPareto();
      await drawDots();
      document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
    });
  }

  // ---- comparison ---------------------------------------------------------------------------------------------

  function pair(row, reference, key) {
    const { rows, values } = state.board.pairs;
    const [a, b] = [rows.indexOf(reference), rows.indexOf(row)];
    if (a < 0 || b < 0 || a === b) return undefined;
    const [low, high] = [Math.min(a, b), Math.max(a, b)];
    const found = values[key][low * rows.length - (low * (low + 1)) / 2 + high - low - 1];
    return found && a > b ? [isMissing(found[0]) ? null : -found[0], ...found.slice(1)] : found;
  }

  function drawComparison() {
    const { board, picks } = state;
    $("compare-card").hidden = picks.length < 2 || !board.compared.length;
    if ($("compare-card").hidden) return;
    const old = Number($("reference").value);
    const baseline = picks.find(({ row }) => board.rows[row].baseline);
    const kept = picks.some(({ row }) => row === old) && $("reference").dataset.chosen === board.id ? old : (baseline || picks[0]).row;
    fill(picks.map(({ row }) => [row, board.rows[row].name]), $("reference"), kept);
    const others = picks.filter(({ row }) => row !== kept);
    const unknown = others.some(({ row }) => board.compared.some((key) => pair(row, kept, key) === undefined));
    const heads = [h("th", { scope: "col" }, "Strategy"), ...board.compared.map((key) => h("th", { scope: "col", class: "number" }, measure(key).title))];
    const line = ({ row }) => h("tr", {}, h("th", { scope: "row" }, h("span", { class: "swatch", style: `--own:${colour(row)}` }), board.rows[row].name),
      board.compared.map((key) => {
        const found = row === kept ? null : pair(row, kept, key);
        const own = h("div", {}, value(cell(board.rows[row], key)));
        const title = measure(key).title;
        if (!found || isMissing(found[0])) return h("td", { class: "number", "data-title": title }, own, row === kept ? h("div", { class: "muted reference" }, "reference") : h("div", { class: "muted" }, "no pair"));
        const clear = !isMissing(found[2]) && found[2] < 0.05;
        const good = found[0] * measure(key).better > 0;
        const kind = !clear || !measure(key).better ? "open" : good ? "good" : "bad";
        const words = { open: "no clear difference", good: "better", bad: "worse" }[kind];
        return h("td", { class: "number", "data-title": title }, own, h("div", { class: `difference ${kind}`, title: words }, h("span", { class: "sign", "aria-label": words }, { open: "≈", good: "▲", bad: "▼" }[kind]), ` ${signed(found[0])}${isMissing(found[1]) ? "" : ` ± ${found[1].toFixed(4)}`}`),
          h("div", { class: "muted small" }, `p ${probability(found[2])}, ${found[3]} seeds`));
      }));
    $("compare").replaceChildren(h("table", { class: "plain compared" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, [{ row: kept }, ...others].map(line))));
    $("compare-note").textContent = `Differences from ${board.rows[kept].name}, paired by seed, with 95 % t intervals; ▲ better and ▼ worse where p of the paired t test is below .05, ≈ where it is not. These p values are of single comparisons: of twenty, one is below .05 by chance. Those of the table are corrected.` + (unknown ? " Pairs beyond the first rows of a large board are not in this page: python -m leaderboards compare A B has them." : "");
  }

  // ---- one strategy -------------------------------------------------------------------------------------------

  function openDetail(index, chosen) {
    const { board } = state;
    const row = board.rows[index];
    const runs = row.runs;
    const number = chosen ?? 0;
    const run = runs[number];
    const pairs = (list) => list.flatMap(([name, words]) => [h("dt", {}, name), h("dd", {}, words)]);
    const command = board.commands[run[RUN.command]] + ` --seed ${run[RUN.seed]}`;
    const commit = board.commits[run[RUN.commit]];
    const full = (/^[0-9a-f]{7,40}$/.test(commit) ? `git checkout ${commit}\n` : "") + command;
    const copied = h("span", { class: "muted", role: "status" });
    const code = h("code", { id: "command" }, full);
    const copy = async () => {
      try { await navigator.clipboard.writeText(full); copied.textContent = " copied"; } catch {
        const range = document.createRange();
        range.selectNodeContents(code);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        copied.textContent = " selected: copy it with your keyboard";
      }
    };
    const tested = board.compared.filter((key) => row.against[key]);
    const points = `${data.margin * 100} point`;
    const against = h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ["Measure", "Difference", "p (Holm)", `p, equal within ${points}`, `seeds to see ${points}`].map((words, place) => h("th", { scope: "col", class: place ? "number" : "" }, words)))),
      h("tbody", {}, tested.map((key) => {
        const said = row.against[key];
        const texts = [isMissing(said[AGAINST.difference]) ? "–" : signed(said[AGAINST.difference]) + (isMissing(said[AGAINST.margin]) ? "" : ` ± ${said[AGAINST.margin].toFixed(4)}`), probability(said[AGAINST.p]), probability(said[AGAINST.equal]), isMissing(said[AGAINST.needed]) ? "–" : String(said[AGAINST.needed])];
        return h("tr", {}, h("th", { scope: "row" }, measure(key).title), texts.map((text) => h("td", { class: "number" }, text)));
      })));
    const keys = board.eachRun.filter((_, place) => runs.some((one) => one[RUN.values][place]));
    const table = h("table", { class: "plain" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Seed"), keys.map((key) => h("th", { scope: "col", class: "number" }, measure(key).title)), h("th", { scope: "col" }, "Commit"))),
      h("tbody", {}, runs.map((one, place) => h("tr", { class: place === number ? "chosen" : "" }, h("th", { scope: "row" }, h("button", { type: "button", class: "link", "aria-pressed": String(place === number), "data-run": place, onclick: () => { openDetail(index, place); $("detail").querySelector(`[data-run="${place}"]`).focus(); } }, one[RUN.seed])),
        keys.map((key) => { const said = one[RUN.values][board.eachRun.indexOf(key)]; return h("td", { class: "number" }, said ? said[1] : "–"); }),
        h("td", {}, board.commits[one[RUN.commit]].slice(0, 7) + (one[RUN.dirty] ? "+" : "") || "–")))));
    $("detail-body").replaceChildren(...[
      h("div", { class: "card-head" }, h("h2", { id: "detail-title" }, row.name), h("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => $("detail").close() }, "×")),
      h("div", { class: "columns" },
        h("div", {}, h("h3", {}, "Configuration"), h("dl", { class: "defs grid" }, pairs([["strategy", row.strategy], ...row.options]), pairs(row.versions.map(([name, version]) => [`${name}, version`, version])))),
        h("div", {}, h("h3", {}, "Results"), h("dl", { class: "defs grid" }, board.columns.filter((key) => cell(row, key)).flatMap((key) => [h("dt", { title: measure(key).meaning }, measure(key).title), h("dd", {}, value(cell(row, key)))])))),
      tested.length ? h("h3", {}, `Against ${data.baseline}, seed by seed`) : null, tested.length ? h("div", { class: "scroll" }, against) : null,
      h("h3", {}, `Runs (${runs.length})`), h("div", { class: "scroll" }, table),
      runs.some((one) => one[RUN.dirty]) ? h("p", { class: "muted note" }, "A commit with + had uncommitted changes on top.") : null,
      h("h3", {}, `Run it again: seed ${run[RUN.seed]}`), h("pre", {}, code),
      h("p", { class: "muted note" }, h("button", { type: "button", class: "button", id: "copy", onclick: copy }, "Copy"), copied, " Streams that read images from a folder also need --data-root DIR."),
      h("h3", {}, "Provenance of this run"), h("dl", { class: "defs grid" }, pairs([["Run", run[RUN.id]], ["Started", `${run[RUN.started]} UTC`], ...board.provenances[run[RUN.provenance]]])),
    ].filter(Boolean));
    if (!$("detail").open) $("detail").showModal();
  }
  $("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });

  // ---- across streams -----------------------------------------------------------------------------------------

  function drawAcross() {
    $("across").hidden = !data.across.length;
    $("across-pools").replaceChildren(...data.across.flatMap((pool) => [
      h("h3", {}, `${pool.streams.length} streams, ${pool.data} images: ${pool.streams.join(", ")}`),
      h("div", { class: "scroll" }, h("table", { class: "plain" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Strategy"), ["Average rank", pool.title].map((text) => h("th", { scope: "col", class: "number" }, text)))),
        h("tbody", {}, pool.rows.map(([name, ...texts]) => h("tr", {}, h("th", { scope: "row" }, name), texts.map((text) => h("td", { class: "number" }, text))))))),
      h("p", { class: "muted note" }, `Rank 1 is the best of a stream. IQM: mean of the middle half of all runs, in brackets its 95 % interval. ${pool.tested}`),
    ]));
  }

  // ---- what a reader does -------------------------------------------------------------------------------------

  $("board").addEventListener("change", () => show(data.boards[Number($("board").value)]));
  $("filter").addEventListener("input", () => { state.filter = $("filter").value; drawTable(); });
  $("group").addEventListener("change", () => { state.group = $("group").value; drawTable(); });
  $("only").addEventListener("change", () => { state.only = $("only").checked; drawTable(); });
  $("all").addEventListener("change", () => { state.all = $("all").checked; drawTable(); });
  $("reference").addEventListener("change", () => { $("reference").dataset.chosen = state.board.id; drawComparison(); });
  for (const id of ["curves-of", "pareto-x", "pareto-y", "dots-of"]) $(id).addEventListener("change", drawCharts);
  for (const query of [dark, narrow]) query.addEventListener("change", afterPicks);
  addEventListener("scroll", hideTip, { passive: true });
  addEventListener("pointerdown", hideTip);

  drawAcross();
  const [asked, rows] = location.hash.slice(1).split(":");
  let wanted = "";
  try { wanted = decodeURIComponent(asked); } catch { /* An address that says nothing. */ }
  const first = Math.max(0, data.boards.findIndex((board) => board.id === wanted));
  fill(data.boards.map((board, number) => [number, `${board.label} (${board.data}, ${board.rows.length} rows)`]), $("board"), first);
  show(data.boards[first], wanted && rows ? rows.split(",").map(Number) : null);
})();
