"use strict";
(() => {
  const root = document.documentElement;
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;

  // -- figures: colours are written as "@name" and read from the page's own variables ----------------------
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const painted = (value) => {
    if (Array.isArray(value)) return value.map(painted);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, painted(item)]));
    }
    return typeof value === "string" && value.startsWith("@") ? colour(value.slice(1)) : value;
  };
  const axis = (given, narrow) => {
    const own = painted(given || {});
    if (own.title) own.title = { ...own.title, font: { size: 12.5, color: colour("muted") } };
    return {
      gridcolor: colour("grid"), linecolor: colour("line"), zerolinecolor: colour("line"), zeroline: false,
      tickfont: { size: narrow ? 11 : 12 }, automargin: true, ticks: "", ...own,
    };
  };
  // Names of layers and remedies: on a narrow page without their kind, and never wider than a third of it.
  const named = (layout, data, narrow, width) => {
    const given = layout.yaxis;
    if (given.type !== "category") return;
    const names = [...new Set(data.flatMap((trace) => trace.y || []))];
    const most = Math.max(10, Math.floor(width / (narrow ? 2.6 : 3.4) / 6.4));
    const short = (name) => {
      const bare = narrow ? name.replace(/ \([^()]*\)$/, "") : name;
      return bare.length <= most ? bare : bare.slice(0, Math.floor(most / 2) - 1) + "\u2026" + bare.slice(-Math.ceil(most / 2));
    };
    Object.assign(given, { tickvals: names, ticktext: names.map(short), tickmode: "array" });
  };
  const mapped = (data, layout, narrow) => {
    for (const trace of data) {
      if (trace.type !== "heatmap") continue;
      trace.colorbar = {
        ...trace.colorbar, tickfont: { size: 11 },
        title: { ...trace.colorbar.title, font: { size: 12, color: colour("muted") } },
      };
      if (!narrow) continue;
      for (const each of data) if (each.meta === "numbers") each.visible = false;
      Object.assign(trace.colorbar, { orientation: "h", y: -0.3, yanchor: "top", thickness: 9, title: {} });
      layout.height += 46;
    }
  };
  // -- figures that move: a path is drawn up to the frame, its heads at it --------------------------------------
  const cut = (trace, frame) => {
    if (trace.meta === "path") return { x: trace.x.slice(0, trace.stops[frame]), y: trace.y.slice(0, trace.stops[frame]) };
    const at = Math.min(frame, trace.x.length - 1);
    const own = { x: trace.x[at], y: trace.y[at] };
    return trace.names ? { ...own, name: trace.names[at] } : own;
  };
  const moves = (trace) => trace.meta === "path" || trace.meta === "heads";
  const show = (plot, frame) => {
    plot.frame = frame;
    const player = plot.closest("figure").querySelector(".player");
    player.querySelector("input").value = frame;
    player.querySelector("input").setAttribute("aria-valuetext", plot.figure.frames[frame]);
    player.querySelector("output").textContent = plot.figure.frames[frame];
    if (!window.Plotly || !plot.data) return;
    const data = plot.figure.choices[plot.chosen].data;
    const moving = data.map((trace, index) => index).filter((index) => moves(data[index]));
    const now = moving.map((index) => cut(data[index], frame));
    const changed = { x: now.map((each) => each.x), y: now.map((each) => each.y) };
    if (now.some((each) => each.name)) changed.name = now.map((each, k) => each.name || data[moving[k]].name);
    Plotly.restyle(plot, changed, moving);
  };
  const SECONDS = 7;  // that an animation takes from its first frame to its last
  const playable = (plot) => {
    const player = plot.closest("figure").querySelector(".player"), button = player.querySelector("button");
    const last = plot.figure.frames.length - 1;
    let playing = false, from = 0, begun = 0;
    plot.frame = last;
    const stop = () => {
      playing = false;
      button.textContent = "Play";
      button.setAttribute("aria-pressed", "false");
    };
    const tick = () => {
      if (!playing) return;
      const frame = Math.min(last, from + Math.floor((performance.now() - begun) / 1000 / SECONDS * last));
      if (frame !== plot.frame) show(plot, frame);
      if (frame >= last) stop(); else setTimeout(tick, 33);
    };
    button.addEventListener("click", () => {
      if (playing) { stop(); return; }
      from = plot.frame >= last ? 0 : plot.frame;
      playing = true;
      begun = performance.now();
      button.textContent = "Stop";
      button.setAttribute("aria-pressed", "true");
      show(plot, from);
      tick();
    });
    player.querySelector("input").addEventListener("input", (event) => { stop(); show(plot, Number(event.target.value)); });
  };
  const PAPER = 660;  // pixels of a figure on A4 or letter
  let printing = false;
  const draw = (plot) => {
    const figure = plot.figure, choice = figure.choices[plot.chosen];
    const width = printing ? PAPER : plot.clientWidth, narrow = width < 520;
    const given = choice.layout || {};
    const layout = {
      ...painted(given), height: figure.height, margin: { l: 56, r: 14, t: 10, b: 44, ...(given.margin || {}) },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("muted") },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink"), size: 12.5 } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: colour("ink") }, ...painted(given.legend || {}) },
      hovermode: given.hovermode || "x unified",
    };
    for (const key of Object.keys(given)) {
      if (/^[xy]axis\d*$/.test(key)) layout[key] = axis(given[key], narrow);
    }
    layout.xaxis = layout.xaxis || axis({}, narrow);
    layout.yaxis = layout.yaxis || axis({}, narrow);
    const data = painted(choice.data).map((trace) => moves(trace) ? { ...trace, ...cut(trace, plot.frame) } : trace);
    named(layout, data, narrow, width);
    mapped(data, layout, narrow);
    if (narrow && given.showlegend !== false) {
      layout.height += 17 * Math.max(0, data.filter((each) => each.name && each.showlegend !== false).length - 2);
    }
    plot.style.minHeight = layout.height + "px";
    if (printing) {
      layout.width = PAPER;
      Plotly.purge(plot);  // else the legend keeps the place that it had on the wider page
    }
    Plotly.react(plot, data, layout, { displayModeBar: false, responsive: true });
    plot.setAttribute("aria-label", choice.label_text || plot.dataset.label || "");
  };
  const plots = [...document.querySelectorAll(".plot")];
  const drawAll = () => window.Plotly && plots.filter((plot) => plot.clientWidth > 0).forEach(draw);
  document.querySelectorAll("details").forEach((each) => each.addEventListener("toggle", () => {
    if (each.open && window.Plotly) each.querySelectorAll(".plot").forEach(draw);
  }));
  document.querySelectorAll(".bar nav a").forEach((link) => link.addEventListener("click", () => {
    const fold = document.querySelector(link.getAttribute("href") + " > details");
    if (fold) fold.open = true;
  }));
  for (const plot of plots) {
    plot.figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    plot.chosen = 0;
    if ((plot.figure.frames || []).length) playable(plot);
    plot.closest("figure").querySelectorAll(".switch button").forEach((button, index) => {
      button.addEventListener("click", () => {
        plot.chosen = index;
        button.parentElement.querySelectorAll("button").forEach((each) =>
          each.setAttribute("aria-pressed", String(each === button)));
        const caption = plot.closest("figure").querySelector("figcaption");
        if (caption && plot.figure.choices[index].caption) caption.textContent = plot.figure.choices[index].caption;
        if (window.Plotly) draw(plot);
      });
    });
  }

  // -- theme -----------------------------------------------------------------------------------------------
  const toggle = document.getElementById("theme");
  const label = () => toggle.setAttribute("aria-label", dark() ? "Switch to the light theme" : "Switch to the dark theme");
  toggle.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("downslope-theme", root.dataset.theme); } catch { /* a file may have no storage */ }
    label(); drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { label(); drawAll(); });
  label();

  // -- the drawing library is packed inside this file; without it the words under each picture remain ------------
  const unpack = async () => {
    const packed = atob(document.getElementById("plotly").textContent.trim());
    const bytes = Uint8Array.from(packed, (each) => each.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const library = document.createElement("script");
    library.textContent = await new Response(stream).text();
    document.head.append(library);
  };
  if (plots.length) {
    unpack().then(drawAll, () => plots.forEach((plot) => { plot.style.minHeight = 0; plot.hidden = true; }));
  }

  // -- copying, printing -----------------------------------------------------------------------------------
  document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copies).textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(document.getElementById(button.dataset.copies));
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2500);
  }));
  let before = null;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme || "";
    root.dataset.theme = "light";
    document.querySelectorAll("details.fold").forEach((each) => { each.open = true; });
    printing = true;
    drawAll();
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    printing = false;
    drawAll();
  });
})();
