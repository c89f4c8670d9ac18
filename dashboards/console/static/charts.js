// Draws the panels of a dashboard: asks the console for each that is in sight, and hands the numbers to uPlot or to plain HTML.
// The console's Python decides what is asked of Prometheus; here is only drawing.
"use strict";
(() => {
  const COLORS = {
    light: ["#1f6fc4", "#b4531b", "#3a7d2c", "#8a3ab0", "#0f7f8c", "#a6324f", "#6a6f00", "#5558c8", "#96661a", "#3f4a58"],
    dark: ["#62a8f5", "#f0995c", "#7cc66a", "#c98bea", "#4fc3d0", "#ee7f9b", "#c9c54a", "#9ea2ff", "#dfb162", "#aab4c2"],
  };
  const SI = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
  const IEC = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]];
  const LONG = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const SHORT = [[1, "s"], [1e-3, "ms"], [1e-6, "us"]];
  const LONG_SECONDS = 99.95, DAYS_ALONE = 10;
  const TABBABLE_DOTS = 3;
  const FONT = "11px system-ui, sans-serif";

  // -- numbers: the same rules as units.py
  function digits(value) {
    const size = Math.abs(value);
    if (size < 1e-9) return "0";
    if (size >= 99.95) return value.toFixed(0);
    const places = size >= 9.995 ? 1 : size >= 0.9995 ? 2 : size >= 0.01 ? 3 : 1 - Math.floor(Math.log10(size));
    return value.toFixed(places).replace(/\.?0+$/, "");
  }
  function scaled(value, scales) {
    const base = scales.at(-1);
    const [scale, name] = scales.find(([each]) => Math.abs(value) >= each * 0.9995) ?? base;
    return `${digits(value / scale)} ${name}`.trim();
  }
  function long(seconds) {
    const place = LONG.findIndex(([scale]) => seconds >= scale);
    const [scale, name] = LONG[place], [smaller, smallerName] = LONG[place + 1];
    const whole = Math.floor(seconds / scale), rest = seconds - whole * scale;
    if (rest < smaller || (name === "d" && whole >= DAYS_ALONE)) return `${whole} ${name}`;
    return `${whole} ${name} ${Math.floor(rest / smaller)} ${smallerName}`;
  }
  function duration(seconds) {
    const size = Math.abs(seconds);
    if (size >= LONG_SECONDS) return (seconds < 0 ? "-" : "") + long(Math.round(size));
    return size < 1e-9 ? "0 s" : scaled(seconds, SHORT);
  }
  function percent(value) {
    return value >= 99 && value < 100 ? (Math.floor(value * 100) / 100).toFixed(2) : digits(value);
  }
  function money(value) {
    const size = Math.abs(value);
    return size >= 1000 ? value.toFixed(0) : size >= 0.1 || size === 0 ? value.toFixed(2) : digits(value);
  }
  const spaced = (suffix) => suffix && !suffix.startsWith("/") ? ` ${suffix}` : suffix;
  function format(value, unit) {
    if (value === null || value === undefined || Number.isNaN(value)) return "no data";
    const base = value * unit.factor;
    switch (unit.kind) {
      case "seconds": return duration(base);
      case "bytes": return scaled(base, IEC) + unit.suffix;
      case "percent": return `${percent(base * 100)} %`;
      case "money": return `$ ${money(base)}`;
      default: return `${scaled(base, SI)}${spaced(unit.suffix)}`;
    }
  }
  // Of an axis: one scale for all of its ticks, the largest tick's.
  function tickTexts(values, unit) {
    const bases = values.map((each) => each * unit.factor), most = Math.max(...bases.map(Math.abs));
    const of = (scales, suffix) => {
      const [scale, name] = scales.find(([each]) => most >= each) ?? scales.at(-1);
      return bases.map((each) => each === 0 ? "0" : `${`${digits(each / scale)} ${name}`.trim()}${suffix}`);
    };
    switch (unit.kind) {
      case "seconds": return of(most >= 172800 ? [[86400, "d"]] : most >= 7200 ? [[3600, "h"]] : most >= 120 ? [[60, "min"]] : SHORT, "");
      case "bytes": return of(IEC, unit.suffix);
      case "percent": return bases.map((each) => each === 0 ? "0" : `${digits(each * 100)} %`);
      case "money": return bases.map((each) => each === 0 ? "0" : `$ ${digits(each)}`);
      default: return of(SI, spaced(unit.suffix));
    }
  }
  // Steps between ticks that are round in the unit: of time in minutes and hours, of bytes in powers of two.
  const DECIMAL_STEPS = Array.from({ length: 28 }, (_, at) => [1, 2, 2.5, 5].map((digit) => digit * 10 ** (at - 9))).flat();
  const STEPS = {
    seconds: [...DECIMAL_STEPS.filter((each) => each < 1.5), 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200,
      ...[1, 2, 5, 10, 20, 30, 50, 100, 200, 365].map((days) => days * 86400)],
    bytes: Array.from({ length: 60 }, (_, at) => 2 ** at),
  };
  const stepsOf = (unit) => (STEPS[unit.kind] ?? DECIMAL_STEPS).map((each) => each / unit.factor);

  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const palette = () => COLORS[window.spillway.isDark() ? "dark" : "light"];
  const utc = (seconds) => new Date(seconds * 1000).toISOString();

  // -- time series
  const drawn = new Map();
  function limitLines(limits) {
    return (u) => {
      const { ctx } = u;
      ctx.save();
      ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.lineWidth = devicePixelRatio;
      for (const limit of limits) {
        const y = u.valToPos(limit.value, "y", true);
        if (y < u.bbox.top || y > u.bbox.top + u.bbox.height) continue;
        ctx.strokeStyle = style(limit.state === "bad" ? "--bad" : limit.state === "near" ? "--near" : "--quiet");
        ctx.beginPath();
        ctx.moveTo(u.bbox.left, y);
        ctx.lineTo(u.bbox.left + u.bbox.width, y);
        ctx.stroke();
      }
      ctx.restore();
    };
  }
  function stack(columns) {
    const sums = columns[0].map(() => 0);
    return [columns[0], ...columns.slice(1).map((values) => values.map((value, at) => (value === null ? null : (sums[at] += value))))];
  }
  function yRange(answer) {
    return (u, low, high) => {
      let top = Math.max(high ?? 0, ...answer.exemplars.map((each) => each.value));
      const least = Math.min(...answer.limits.map((each) => each.value));
      // Nothing happens: room up to the limit, so that the first trouble has its true size.
      if (top <= 0 && Number.isFinite(least)) top = least * 1.2;
      // A limit is shown when what is measured comes near it; else the line of the day would be flat.
      for (const limit of answer.limits) if (top >= limit.value * 0.5) top = Math.max(top, limit.value * 1.05);
      const bottom = answer.min ?? Math.min(0, low ?? 0);
      if (answer.max !== null && answer.max !== undefined) top = Math.max(answer.max, top);
      return [bottom, top > bottom ? bottom + (top - bottom) * 1.08 : bottom + 1];
    };
  }
  const pen = document.createElement("canvas").getContext("2d");
  function widest(texts) {
    pen.font = FONT;
    return Math.ceil(Math.max(...texts.map((each) => pen.measureText(each).width)));
  }
  function axes(unit) {
    const stroke = style("--quiet"), grid = { stroke: style("--grid"), width: 1 };
    const ticks = { ...grid, size: 4 };
    return [
      { stroke, grid, ticks, font: FONT, size: 24, gap: 3, space: 64, values: (u, splits, axis, space, step) => splits.map((at) => {
        const text = utc(at);
        return step >= 86400 ? text.slice(5, 10) : step >= 60 ? text.slice(11, 16) : text.slice(11, 19);
      }) },
      { stroke, grid, ticks, font: FONT, gap: 4, space: 26, incrs: stepsOf(unit), size: (u, values) => values ? 10 + widest(values) : 40,
        values: (u, splits) => tickTexts(splits, unit) },
    ];
  }
  function dots(u, answer) {
    u.over.querySelectorAll(".dot").forEach((each) => { if (each !== document.activeElement) each.remove(); });
    const kept = u.over.querySelector(".dot")?.getAttribute("href");
    const slowest = [...answer.exemplars].sort((a, b) => b.value - a.value).slice(0, TABBABLE_DOTS);
    for (const each of answer.exemplars) {
      const href = `/trace/${encodeURIComponent(each.trace)}`;
      if (href === kept) continue;
      const x = u.valToPos(each.at, "x"), y = u.valToPos(each.value, "y");
      if (!(x >= 0 && x <= u.over.clientWidth && y >= 0 && y <= u.over.clientHeight)) continue;
      const text = `${format(each.value, answer.unit)} at ${utc(each.at).slice(11, 19)} UTC${each.where ? `, ${each.where}` : ""}: its trace`;
      const dot = make("a", { class: y < u.over.clientHeight / 2 ? "dot high" : "dot", href, title: text, "aria-label": text, tabindex: slowest.includes(each) ? null : "-1" });
      dot.style.left = `${x}px`;
      dot.style.top = `${y}px`;
      dot.addEventListener("mousedown", (event) => event.stopPropagation());
      u.over.append(dot);
    }
  }
  function legend(answer, colors) {
    const names = answer.series.map((each, at) => {
      const swatch = make("i", { class: "swatch" });
      swatch.style.background = colors[at % colors.length];
      const last = each.values.findLast((value) => value !== null);
      return make("li", { title: each.name }, swatch, make("span", { class: "name" }, each.name), make("b", {}, format(last, answer.unit)));
    });
    if (answer.idle.length) names.push(make("li", { title: answer.idle.join("\n"), class: "name" }, `${answer.idle.length} more at 0`));
    if (answer.exemplars.length) names.push(make("li", { class: "name" }, make("i", { class: "swatch round" }), "one event: its trace"));
    if (answer.left_out) names.push(make("li", { class: "name" }, `and ${answer.left_out} more`));
    return make("ul", { class: "legend" }, ...names);
  }
  function chart(body, answer) {
    const existing = drawn.get(body);
    const shape = JSON.stringify([answer.series.map((each) => each.name), answer.unit, answer.limits, window.spillway.isDark()]);
    if (!answer.series.length) { existing?.plot.destroy(); drawn.delete(body); say(body, "no data", "nodata"); return; }
    let columns = [answer.times, ...answer.series.map((each) => each.values)];
    const plain = columns;
    if (answer.stacked) columns = stack(columns);
    const colors = palette();
    if (existing && existing.shape === shape) {
      existing.answer = answer;
      existing.plain = plain;
      existing.plot.setData(columns);
      existing.list.replaceWith(existing.list = legend(answer, colors));
      return;
    }
    existing?.plot.destroy();
    const holder = make("div", { class: "plot" }), tip = make("div", { class: "tip", hidden: "" });
    const list = legend(answer, colors);
    body.replaceChildren(holder, list);
    const state = { shape, answer, plain, list };
    const size = () => ({ width: Math.max(120, holder.clientWidth), height: Math.max(60, holder.clientHeight) });
    state.plot = new uPlot({
      ...size(),
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false }, sync: { key: "spillway" } },
      scales: { x: { time: true }, y: { range: (u, low, high) => yRange(state.answer)(u, low, high) } },
      axes: axes(answer.unit),
      series: [{}, ...answer.series.map((each, at) => ({
        label: each.name, stroke: colors[at % colors.length], width: 1.5, points: { show: false }, spanGaps: false,
        // Several fills over each other tell nothing.
        fill: answer.stacked ? colors[at % colors.length] + "55" : answer.fill && answer.series.length === 1 ? colors[0] + "1f" : undefined,
      }))],
      padding: [8, 10, 0, 0],
      hooks: {
        drawAxes: [(u) => limitLines(state.answer.limits)(u)],
        draw: [(u) => dots(u, state.answer)],
        setCursor: [(u) => tell(u, tip, state)],
      },
    }, columns, holder);
    state.plot.over.append(tip);
    drawn.set(body, state);
    new ResizeObserver(() => { if (drawn.get(body) === state) state.plot.setSize(size()); }).observe(holder);
  }
  function tell(u, tip, state) {
    const at = u.cursor.idx;
    const hovered = u.over.matches(":hover");
    tip.hidden = !hovered || at === null || at === undefined;
    if (tip.hidden) return;
    const colors = palette();
    const rows = state.answer.series.map((each, index) => ({ name: each.name, value: state.plain[index + 1][at], color: colors[index % colors.length] }))
      .filter((each) => each.value !== null).sort((a, b) => b.value - a.value).slice(0, 12);
    tip.replaceChildren(make("b", {}, `${utc(state.answer.times[at]).slice(5, 19).replace("T", " ")} UTC`), ...rows.map((each) => {
      const swatch = make("i", { class: "swatch" });
      swatch.style.background = each.color;
      return make("div", {}, swatch, `${each.name}: `, make("b", {}, format(each.value, state.answer.unit)));
    }));
    const left = u.cursor.left;
    tip.classList.toggle("flip", left > u.over.clientWidth / 2);
    tip.style.left = `${left}px`;
  }

  // -- numbers and tables
  const SVG = "http://www.w3.org/2000/svg";
  function sparkline(values) {
    const known = values.map((value, at) => [at, value]).filter(([, value]) => value !== null);
    if (known.length < 2) return [];
    const top = Math.max(...known.map(([, value]) => value)) * 1.15 || 1;
    const line = known.map(([at, value]) => `${(100 * at / (values.length - 1)).toFixed(2)} ${(30 - 30 * Math.max(0, value) / top).toFixed(2)}`);
    const svg = document.createElementNS(SVG, "svg");
    for (const [key, value] of [["viewBox", "0 0 100 30"], ["preserveAspectRatio", "none"], ["class", "course"], ["aria-hidden", "true"]]) svg.setAttribute(key, value);
    const [from, to] = [line[0].split(" ")[0], line.at(-1).split(" ")[0]];
    for (const [name, d] of [["area", `M${from} 30 L${line.join(" L")} L${to} 30 Z`], ["line", `M${line.join(" L")}`]]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      path.setAttribute("d", d);
      svg.append(path);
    }
    return [svg];
  }
  function numbers(body, answer) {
    if (!answer.values.length) { say(body, "no data", "nodata"); return; }
    body.replaceChildren(make("dl", { class: `numbers n${Math.min(answer.values.length, 6)}` }, ...answer.values.map((each) => {
      const item = make("div", { class: `state-${each.state}` }, ...sparkline(each.course), make("dt", {}, each.name), make("dd", {}, each.text));
      if (each.share !== null) item.append(make("meter", { min: 0, max: 1, value: each.share, class: each.state, "aria-label": each.name || "share" }));
      return item;
    })));
  }
  function rows(body, answer) {
    if (!answer.rows.length) { say(body, "no data", "nodata"); return; }
    const scroll = make("div", { class: "scroll", tabindex: "0" }, make("table", {},
      make("thead", {}, make("tr", {}, ...answer.columns.map((each, at) => make("th", { scope: "col", class: at >= answer.numeric ? "number" : "" }, each)))),
      make("tbody", {}, ...answer.rows.map((row) => make("tr", {}, ...row.map((cell, at) => make("td", { class: at >= answer.numeric ? "number" : "" }, cell)))))));
    body.replaceChildren(scroll);
  }
  function say(body, text, kind, why = "") {
    drawn.get(body)?.plot.destroy();
    drawn.delete(body);
    body.replaceChildren(make("p", { class: `notice ${kind}`, role: "status", title: why || null }, text));
  }

  // -- asking
  const board = document.body.dataset.board;
  const inSight = new Set();
  async function one(panel) {
    const asked = new URLSearchParams(new FormData(document.querySelector("#controls")));
    asked.delete("refresh");
    const reply = await fetch(`/api/panels/${encodeURIComponent(board)}/${panel.dataset.panel}?${asked}`);
    const body = panel.querySelector(".body");
    if (!reply.ok) { say(body, `the console says ${reply.status}`, "away"); return; }
    const answer = await reply.json();
    panel.dataset.loaded = answer.error ? "error" : "yes";
    if (answer.error) say(body, answer.error, "away", answer.why);
    else if (answer.series) chart(body, answer);
    else if (answer.columns) rows(body, answer);
    else numbers(body, answer);
  }
  const panels = [...document.querySelectorAll("[data-panel]")];
  const guarded = (panel) => one(panel).catch((problem) => { say(panel.querySelector(".body"), "the console does not answer", "away"); throw problem; });
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) { inSight.delete(entry.target); continue; }
      inSight.add(entry.target);
      if (!entry.target.dataset.loaded) guarded(entry.target).catch(() => {});
    }
  }, { rootMargin: "200px" });
  panels.forEach((each) => watcher.observe(each));
  // Links to "traces of this time" follow the time that is shown.
  function followTime() {
    const seconds = { m: 60, h: 3600, d: 86400 }, [, count, unit] = /(\d+)(\w)/.exec(document.querySelector("#controls").elements.range.value);
    const end = Math.floor(Date.now() / 1000);
    for (const link of document.querySelectorAll("a[data-live]")) {
      const url = new URL(link.href);
      url.searchParams.set("start", end - count * seconds[unit]);
      url.searchParams.set("end", end);
      link.href = url;
    }
  }
  addEventListener("DOMContentLoaded", () => {
    window.spillway.refreshers.push(() => { followTime(); return Promise.all([...inSight].map(guarded)); });
    document.addEventListener("themed", () => { for (const panel of inSight) guarded(panel).catch(() => {}); });
  });
  window.spillway_units = { format, tickTexts };
})();
