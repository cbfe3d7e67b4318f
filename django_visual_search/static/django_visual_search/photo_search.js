/* django-visual-search: makes a widget of the photo search form.

   The photo is shown at once, made smaller here (which leaves out where it was taken), and searched by; hits appear in
   place, at an address of their own. A part of the photo is cut out here too. Filters, words, order and more hits are
   links and forms of the results, fetched and put in place. No dependency, nothing inline, no cookies; the photo stays
   in this tab's session storage, so that it is still there after a product was looked at.

   Pages are what the server sends to browsers without scripts; of them the element RESULTS is shown. A form on a page
   without that element leads to the page that has it. */
const RESULTS = "[data-visual-search-results]";
const SIDE = 1024; // pixels of the photo that is sent
const PART_SIDE = 512; // of a part of it
const OBJECTS_SIDE = 320; // as the server's network sees it
const MOST = 160_000; // bytes, two seconds of a slow line
const QUALITIES = [0.85, 0.7, 0.55];
const RETRIES = 2;
const LONGEST_WAIT = 120; // seconds
const MOMENT = 10; // seconds after which the server's reason is shown, too
const LEAST = 6; // percent of the smallest part's sides
const STEP = 2; // percent that an arrow key moves; five times as much with Shift
const SURE = 0.4; // least score of an object
const APART = 0.18; // of the photo's side
const KEPT = "visual-search-photo";
const PHOTOS = 3; // that are kept, the last first
const WHOLE = [0, 0, 100, 100];
const EDGES = ["left", "top", "right", "bottom"];
/* 16 × 8 pixels, white but for a black quarter at the top left, and to be mirrored and turned: EXIF orientation 7. */
const LYING = "/9j/4QAiRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAcAAAAAAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrar"
  + "YqMyP/L2u71////m8H////6/+b9//j/wAALCAAIABABAREA/8QAFQABAQAAAAAAAAAAAAAAAAAAAAX/xAAYEAACAwAAAAAAAAAAAAAAAAAAFWSj4f/a"
  + "AAgBAQAAPwAgk16WT//Z";

/* Return what the tab's storage keeps of each photo: handles of its searches with their parts, the objects, the photo. */
function stored() {
  try {
    return [].concat(JSON.parse(sessionStorage.getItem(KEPT)) || []);
  } catch {
    return []; // switched off, or nothing that can be read
  }
}

/* Return a JPEG photo at the most eighths of its size that fit in twice SIDE: 12 megapixels take half the time. */
async function reduced(data) {
  const side = 2 * SIDE;
  const decoder = new ImageDecoder({ data, type: "image/jpeg", desiredWidth: side, desiredHeight: side });
  const { image } = await decoder.decode();
  decoder.close();
  return image;
}

let turning;

/* Return whether photos that ImageDecoder makes are upright: in WebKit, they lay as the camera was held until 2026. */
async function turns() {
  const image = await reduced(bytesOf(LYING));
  const canvas = drawn(image, SIDE);
  image.close();
  const { data } = canvas.getContext("2d").getImageData(0, 0, 8, 16);
  const dark = (x, y) => data[4 * (8 * y + x)] < 128;
  return canvas.width === 8 && canvas.height === 16 && dark(6, 14) && !dark(1, 14) && !dark(6, 1);
}

/* Return a file's picture, upright. */
async function decoded(file) {
  try {
    if (file.type === "image/jpeg" && await (turning ||= turns())) return await reduced(file.stream());
  } catch {
    // no ImageDecoder, or it can't decode this
  }
  return createImageBitmap(file, { imageOrientation: "from-image" });
}

const pause = (ms) => new Promise((go) => { setTimeout(go, ms); });

function drawn(source, side, [left, top, right, bottom] = WHOLE) {
  const across = source.displayWidth || source.width, down = source.displayHeight || source.height;
  const x = across * left / 100, y = down * top / 100;
  const width = across * (right - left) / 100, height = down * (bottom - top) / 100;
  const scale = Math.min(1, side / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // under what is transparent: JPEG has no alpha
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/* Return the bytes of base64. */
function bytesOf(base64) {
  const letters = atob(base64), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/* Return a JPEG as a data URL. Not by toBlob, which Chromium puts off for seconds while the page is busy. */
function encoded(canvas) {
  let url = "";
  for (const quality of QUALITIES) {
    url = canvas.toDataURL("image/jpeg", quality);
    if (url.length * 3 / 4 <= MOST) break;
  }
  return url;
}

const blobOf = (url) => new Blob([bytesOf(url.split(",")[1])], { type: "image/jpeg" });

/* Put an element over a part of the photo. Not by logical properties: a photo isn't mirrored where the page is. */
function spread({ style }, [left, top, right, bottom]) {
  Object.assign(style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
}

/* Return the objects to tap: sure ones, whose middles are apart, for a finger hits no smaller target. */
function distinct(objects) {
  const taken = [];
  for (const one of objects) {
    const [left, top, right, bottom] = one.box;
    const middle = [(left + right) / 2, (top + bottom) / 2];
    const near = taken.some((other) => Math.hypot(middle[0] - other.middle[0], middle[1] - other.middle[1]) < APART);
    if (one.score >= SURE && !near) taken.push({ ...one, middle });
  }
  return taken;
}

class Widget {
  constructor(form) {
    this.form = form;
    this.results = form.classList.contains("visual-search-compact") ? null : document.querySelector(RESULTS);
    this.stage = this.part("stage");
    this.canvas = this.stage?.querySelector("canvas");
    this.box = WHOLE;
    this.kept = { handles: {} };
    this.photo = null; // what is sent: a canvas, or a file that this browser can't decode
    form.classList.add("visual-search-live");
    this.results?.classList.add("visual-search-live");

    form.addEventListener("submit", (event) => { event.preventDefault(); this.submitted(); });
    const choose = (input) => {
      this.take(input.files[0]);
      input.value = ""; // the same photo may be chosen again
    };
    const inputs = [...form.querySelectorAll("input[type=file]")];
    for (const input of inputs) input.addEventListener("change", () => choose(input));
    this.part("cancel").addEventListener("click", () => this.cancel("cancelled"));
    this.part("retry")?.addEventListener("click", () => this.again());
    // On the page for it, a photo may be dropped anywhere: beside the form, the browser would leave for the file.
    const ground = this.results ? window : form;
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
      ground.addEventListener(kind, (event) => this.dragged(event));
    }
    if (this.stage) window.addEventListener("paste", (event) => this.pasted(event));
    if (this.stage) this.prepareStage();
    if (this.results) this.prepareResults();
    const early = inputs.find((input) => input.files.length); // chosen before this script was there, on a slow line
    if (early) choose(early);
  }

  part(name) { return this.form.querySelector(`[data-part="${name}"]`); }
  words(name) { return this.form.querySelector(`[data-say="${name}"]`).textContent; }

  // What is going on, and what went wrong

  say(name) {
    this.part("status").textContent = name ? this.words(name) : "";
  }

  refuse(...sentences) {
    this.say("");
    const shown = sentences.map((sentence) => {
      const p = document.createElement("p");
      p.className = "visual-search-error";
      p.setAttribute("role", "alert");
      p.textContent = sentence;
      return p;
    });
    this.part("alert").replaceChildren(...shown);
  }

  offerRetry(offered) {
    const button = this.part("retry");
    if (button) button.hidden = !offered;
  }

  // The photo

  async take(file) {
    if (!file) return;
    this.cancel();
    const taken = this.taken = {};
    this.refuse();
    this.offerRetry(false);
    this.say("reading");
    let picture = null;
    try {
      picture = await decoded(file);
      if (this.taken !== taken) return; // another was chosen meanwhile
    } catch {
      if (this.taken !== taken) return;
      // Not a picture, or of a format that this browser can't decode, such as HEIC; the server can.
      if (!/\b(heic|heif|avif|tiff?)$/i.test(file.type) && !/\.(heic|heif|avif)$/i.test(file.name || "")) {
        return this.refuse(this.words("format"));
      }
      if (file.size > Number(this.form.dataset.most)) return this.refuse(this.words("large"));
    }
    this.kept = { handles: {} };
    this.photo = picture ? drawn(picture, SIDE) : file;
    picture?.close();
    this.show(WHOLE);
    await this.search(this.form.action);
    if (this.photo instanceof HTMLCanvasElement) this.findObjects();
  }

  submitted() {
    const chosen = [...this.form.querySelectorAll("input[type=file]")].find((input) => input.files.length);
    if (chosen) return this.take(chosen.files[0]);
    if (this.asked) return null; // Enter in a field that has changed searches already
    if (this.photo) return this.search(this.form.action);
    return this.refuse(this.words("choose"));
  }

  dragged(event) {
    if (event.defaultPrevented || ![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    this.form.classList.toggle("visual-search-over", event.type === "dragenter" || event.type === "dragover");
    if (event.type === "drop") this.take(event.dataTransfer.files[0]);
  }

  pasted(event) {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (file) this.take(file);
  }

  show(box) {
    if (!this.stage) return;
    const canvas = this.photo instanceof HTMLCanvasElement;
    if (canvas) {
      this.canvas.width = this.photo.width;
      this.canvas.height = this.photo.height;
      this.canvas.getContext("2d").drawImage(this.photo, 0, 0);
    }
    for (const dot of this.stage.querySelectorAll(".visual-search-object")) dot.remove();
    this.stage.hidden = this.part("enlarge").hidden = !canvas;
    this.form.classList.toggle("visual-search-unseen", !canvas); // a part of it is chosen by numbers
    const hint = this.part("hint");
    hint.hidden = canvas;
    if (!canvas) hint.textContent = this.photo.name;
    this.form.querySelector(".visual-search-choice span").textContent = this.words("another");
    this.form.closest(".visual-search")?.classList.add("visual-search-done");
    this.setBox(box);
  }

  // Asking the server

  async search(url, history = "push") {
    this.again = () => this.search(url, history);
    const { photo, box } = this;
    const body = new FormData(this.form);
    body.delete("image");
    if (photo instanceof HTMLCanvasElement) {
      const whole = box === WHOLE;
      EDGES.forEach((edge, i) => body.set(`crop_${edge}`, whole ? "" : WHOLE[i])); // cut out already: search by all of it
      this.kept.image ||= encoded(photo);
      body.set("image", blobOf(whole ? this.kept.image : encoded(drawn(photo, PART_SIDE, box))), "photo.jpg");
    } else {
      body.set("image", photo, photo.name);
    }
    const page = await this.ask("POST", url, body);
    if (!page) return;
    const handle = page.url && new URL(page.url, location.href).searchParams.get("handle");
    if (handle) this.kept.handles[handle] = box;
    this.keep();
    if (this.form.elements.text) this.form.elements.text.value = ""; // from here on, the results have the words
    this.place(page, history);
  }

  keep() {
    if (!(this.photo instanceof HTMLCanvasElement)) return;
    const others = [];
    for (const one of stored()) {
      if (one.image === this.kept.image) this.kept.handles = { ...one.handles, ...this.kept.handles }; // of another page
      else others.push(one);
    }
    try {
      sessionStorage.setItem(KEPT, JSON.stringify([this.kept, ...others].slice(0, PHOTOS)));
    } catch {
      // Full, or switched off: the photo is gone with the page.
    }
  }

  /* Return the page of results that the server answers with, "expired" where it forgot a photo that this browser has, or
     nothing where it refuses, which is said. */
  async ask(method, url, body = null) {
    this.cancel();
    this.refuse();
    const asked = this.asked = {};
    this.wait(method === "POST");
    for (let attempt = 0; ; attempt += 1) {
      const answer = await this.send(asked, method, url, body);
      if (this.asked !== asked) return null; // cancelled, or another search has begun
      const after = Number(answer.retryAfter) || (Date.parse(answer.retryAfter) - Date.now()) / 1000; // seconds, or a date
      const said = [...(answer.page?.querySelectorAll("[data-visual-search-form] [role=alert]") || [])];
      const reasons = [...new Set(said.map((one) => one.textContent))];
      if ([429, 503].includes(answer.status) && after > 0 && after <= LONGEST_WAIT && attempt < RETRIES) {
        this.refuse(...(after > MOMENT ? reasons : []));
        this.say("busy");
        await pause(after * 1000);
        if (this.asked !== asked) return null;
        continue;
      }
      this.settle();
      const results = answer.page?.querySelector(RESULTS);
      const found = results?.querySelector(".visual-search-found");
      this.offerRetry(false);
      if (answer.status === 200 && found) return { results, url: found.dataset.url, title: answer.page.title };
      if (answer.status === 410 && method === "GET" && this.keptOf(url)) return "expired";
      this.refuse(...(reasons.length ? reasons : [this.words(answer.status ? "failed" : "offline")]));
      this.offerRetry(![410, 413, 422].includes(answer.status));
      return null;
    }
  }

  send(asked, method, url, body) {
    return new Promise((done) => {
      const request = asked.request = new XMLHttpRequest(); // fetch tells nothing of an upload's progress
      const bar = this.form.querySelector("progress");
      request.open(method, url);
      request.upload.onprogress = (event) => { bar.value = event.loaded / event.total; };
      request.upload.onload = () => { bar.removeAttribute("value"); this.say("searching"); };
      request.onloadend = () => done({
        status: request.status,
        retryAfter: request.getResponseHeader("Retry-After"),
        page: (request.getResponseHeader("Content-Type") || "").startsWith("text/html")
          ? new DOMParser().parseFromString(request.responseText, "text/html") : null,
      });
      this.say(method === "POST" ? "sending" : "searching");
      request.send(body);
    });
  }

  wait(skeletons) {
    this.part("progress").hidden = false;
    if (!this.results) return;
    this.before = [...this.results.childNodes];
    this.results.setAttribute("aria-busy", "true");
    if (!skeletons) return;
    const list = document.createElement("ol");
    list.className = "visual-search-cards visual-search-skeletons";
    list.setAttribute("aria-hidden", "true");
    list.append(...Array.from({ length: 8 }, () => document.createElement("li")));
    this.results.replaceChildren(list);
  }

  settle() {
    this.asked = null;
    this.refuse();
    this.part("progress").hidden = true;
    if (!this.results) return;
    this.results.removeAttribute("aria-busy");
    if (this.before) this.results.replaceChildren(...this.before);
    this.before = null;
  }

  cancel(word) {
    const { asked } = this;
    this.taken = null;
    if (!asked) return;
    this.asked = null;
    asked.request.abort();
    this.settle();
    if (word) this.say(word);
  }

  // The results

  /* Show a page of results; history: "push", "replace" or nothing. key: of the link that led to it, which gets the focus. */
  place(page, history, key) {
    if (!this.results) {
      location.assign(page.url || this.form.action); // no URL where the server can't keep the search
      return;
    }
    this.results.replaceChildren(...page.results.childNodes);
    document.title = page.title;
    if (page.url && history) this.moveTo(page.url, history);
    if (this.stage?.contains(document.activeElement)) { // the next part is chosen there
      this.say("found");
      return;
    }
    const same = key && [...this.results.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
    (same || this.results.querySelector("h2"))?.focus({ preventScroll: Boolean(same) });
  }

  moveTo(url, history) {
    window.history[`${history}State`]({ visualSearch: true }, "", url);
    this.shown = location.search;
  }

  /* Put only the new hits beside those that are shown, which stay as they are. */
  append(page) {
    const [lists, old] = [page.results, this.results].map((place) => place.querySelectorAll(".visual-search-cards"));
    const into = old[old.length - 1], from = lists[lists.length - 1];
    const fresh = [...from.children].slice(into.children.length);
    for (const list of old) list.dataset.visualSearchToken = from.dataset.visualSearchToken || "";
    into.append(...fresh);
    const more = page.results.querySelector(".visual-search-more");
    const shown = this.results.querySelector(".visual-search-more");
    if (more) shown.replaceWith(more);
    else shown.remove();
    this.moveTo(page.url, "replace");
    fresh[0]?.querySelector("a")?.focus();
  }

  async go(url, how, key) {
    this.again = () => this.go(url, how, key);
    const page = await this.ask("GET", url);
    if (!page) return;
    await this.turnTo(url);
    if (page === "expired") {
      this.search(this.address(url), how === "push" ? "push" : "replace");
      return;
    }
    if (how === "more") this.append(page);
    else this.place(page, how, key);
  }

  /* Return the address of a search with the same words and filters by another photo. */
  address(url) {
    const found = new URL(url, location.href);
    for (const name of ["handle", "pages"]) found.searchParams.delete(name);
    return found.href;
  }

  prepareResults() {
    this.results.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-visual-search-go], a[data-visual-search-way]");
      if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      const { visualSearchWay: way } = link.dataset;
      if (way === "part" && !this.stage.hidden) {
        event.preventDefault();
        this.enlarge(true);
        this.part("box").focus();
      } else if (way === "photo") {
        event.preventDefault();
        this.form.querySelector("input[type=file]").click();
      } else if (!way) {
        event.preventDefault();
        this.go(link.href, link.dataset.visualSearchGo || "push", link.dataset.key);
      }
    });
    const refine = (form, key) => {
      const asked = new URLSearchParams(new FormData(form));
      for (const [name, value] of [...asked]) if (!value && !name.startsWith("facet_")) asked.delete(name);
      this.go(`${form.action}?${asked}`, "push", key);
    };
    this.results.addEventListener("submit", (event) => {
      if (!event.target.matches("[data-visual-search-go]")) return;
      event.preventDefault();
      refine(event.target, event.target.elements.text && "text");
    });
    this.results.addEventListener("change", (event) => {
      if (event.target.name === "sort") refine(event.target.form, "sort");
    });
    document.addEventListener("click", async (event) => { // a picture to search by, such as a sample
      const link = event.target.closest("a[data-visual-search-photo]");
      if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      try {
        this.take(await (await fetch(link.dataset.visualSearchPhoto)).blob());
      } catch {
        location.assign(link.href);
      }
    });
    this.shown = location.search;
    window.addEventListener("popstate", () => {
      if (location.search === this.shown) return; // to a place within the page
      this.shown = location.search;
      if (new URL(location.href).searchParams.has("handle")) this.go(location.href, "");
      else location.reload(); // before the first photo
    });
    this.restore();
  }

  /* Return what is kept of the photo whose results are at the URL. */
  keptOf(url) {
    const handle = new URL(url, location.href).searchParams.get("handle");
    return [this.kept, ...stored()].find(({ handles }) => handle in handles);
  }

  /* Show the photo and the part of it whose results are at the URL; none where it isn't kept. */
  async turnTo(url) {
    const { taken } = this, kept = this.keptOf(url);
    if (kept && kept !== this.kept) {
      const bitmap = await createImageBitmap(blobOf(kept.image));
      if (this.taken !== taken) return;
      this.kept = kept;
      this.photo = drawn(bitmap, SIDE);
      this.show(WHOLE);
      this.mark(kept.objects);
    } else if (!kept && this.photo) {
      this.kept = { handles: {} };
      this.photo = null;
      this.stage.hidden = this.part("enlarge").hidden = true;
    }
    if (kept) this.setBox(kept.handles[new URL(url, location.href).searchParams.get("handle")]);
  }

  /* Show the photo of this page's search, after a way back from a product. */
  async restore() {
    await this.turnTo(location.href);
    const { results, form } = this;
    if (this.photo && "expired" in results.dataset) this.search(this.address(location.href), "replace");
    if (results.querySelector(".visual-search-found") || form.querySelector("[role=alert]")) return;
    // Gone forward again before this script was there: the page is that before the photo, at the address of a search.
    if (new URL(location.href).searchParams.has("handle") && !this.asked) this.go(location.href, "");
  }

  // The part of the photo

  prepareStage() {
    const box = this.part("box");
    const fields = EDGES.map((edge) => this.form.elements[`crop_${edge}`]);
    this.part("enlarge").addEventListener("click", (event) => {
      this.enlarge(event.currentTarget.getAttribute("aria-pressed") !== "true");
    });
    fields.forEach((field) => field.addEventListener("change", () => {
      const edges = fields.map((one, i) => (one.value === "" ? WHOLE[i] : Number(one.value)));
      if (!this.photo || edges[0] >= edges[2] || edges[1] >= edges[3]) return;
      this.setBox(edges);
      this.cropped();
    }));
    this.stage.addEventListener("pointerdown", (event) => this.grab(event));
    box.addEventListener("keydown", (event) => this.keyed(event));
  }

  enlarge(large) {
    this.part("enlarge").setAttribute("aria-pressed", String(large));
    this.form.classList.toggle("visual-search-large", large);
  }

  setBox(edges) {
    const whole = edges.every((edge, i) => edge === WHOLE[i]);
    this.box = whole ? WHOLE : edges;
    if (!this.stage) return;
    for (const name of ["box", "hole"]) spread(this.part(name), edges);
    this.stage.classList.toggle("visual-search-cropped", !whole);
    EDGES.forEach((edge, i) => { this.form.elements[`crop_${edge}`].value = whole ? "" : Math.round(edges[i]); });
  }

  cropped() {
    clearTimeout(this.cropping);
    const url = new URL(this.address(location.href)), { handles } = this.kept;
    const known = Object.keys(handles).find((one) => String(handles[one]) === String(this.box));
    if (!known) return this.search(url.href);
    url.searchParams.set("handle", known); // this part was searched by already
    return this.go(url.href, "push");
  }

  grab(event) {
    if (event.button || event.target.closest(".visual-search-object button")) return;
    event.preventDefault();
    const area = this.canvas.getBoundingClientRect();
    const at = ({ clientX, clientY }) => [
      Math.min(100, Math.max(0, (clientX - area.left) / area.width * 100)),
      Math.min(100, Math.max(0, (clientY - area.top) / area.height * 100)),
    ];
    const [startX, startY] = at(event);
    const first = this.box, corner = event.target.dataset.corner;
    const inside = first !== WHOLE && event.target === this.part("box");
    event.target.focus?.();
    const move = (now) => {
      const [x, y] = at(now);
      if (corner) this.setBox(this.stretched(first, corner, x, y));
      else if (inside) this.setBox(this.shifted(first, x - startX, y - startY));
      else if (Math.abs(x - startX) >= LEAST && Math.abs(y - startY) >= LEAST) { // a new box
        this.setBox([Math.min(x, startX), Math.min(y, startY), Math.max(x, startX), Math.max(y, startY)]);
      }
    };
    const end = () => {
      this.stage.removeEventListener("pointermove", move);
      if (String(this.box) !== String(first)) this.cropped();
    };
    this.stage.setPointerCapture(event.pointerId);
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("lostpointercapture", end, { once: true });
  }

  stretched([left, top, right, bottom], corner, x, y) {
    const [side, end] = corner.split(" ");
    return [
      side === "left" ? Math.min(x, right - LEAST) : left,
      end === "top" ? Math.min(y, bottom - LEAST) : top,
      side === "right" ? Math.max(x, left + LEAST) : right,
      end === "bottom" ? Math.max(y, top + LEAST) : bottom,
    ];
  }

  shifted([left, top, right, bottom], x, y) {
    const dx = Math.min(100 - right, Math.max(-left, x)), dy = Math.min(100 - bottom, Math.max(-top, y));
    return [left + dx, top + dy, right + dx, bottom + dy];
  }

  keyed(event) {
    const step = event.shiftKey ? 5 * STEP : STEP;
    const arrows = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const { corner } = event.target.dataset;
    const before = this.box, [left, top, right, bottom] = before;
    if (event.key === "Escape") this.setBox(WHOLE);
    else if (event.key in arrows) {
      const [dx, dy] = arrows[event.key];
      const inside = (value) => Math.min(100, Math.max(0, value));
      const [x, y] = corner ? corner.split(" ").map((edge) => ({ left, top, right, bottom })[edge]) : [dx, dy];
      this.setBox(corner ? this.stretched(this.box, corner, inside(x + dx), inside(y + dy)) : this.shifted(this.box, x, y));
    } else return;
    event.preventDefault();
    if (String(this.box) === String(before)) return;
    clearTimeout(this.cropping);
    this.cropping = setTimeout(() => this.cropped(), 250); // once the key rests
  }

  // The objects in the photo: found after the hits are shown, by a picture as small as the network needs

  async findObjects() {
    const { photo } = this, url = this.form.dataset.objects;
    if (!url || !this.stage || !this.results) return;
    const body = new FormData();
    body.set("image", blobOf(encoded(drawn(photo, OBJECTS_SIDE))), "photo.jpg");
    const token = this.form.elements.csrfmiddlewaretoken?.value || "";
    try {
      const answer = await fetch(url, { method: "POST", body, headers: { "X-CSRFToken": token } });
      if (!answer.ok || this.photo !== photo) return; // they are an extra
      const { objects } = await answer.json();
      this.kept.objects = objects.slice(0, -1); // the last is the whole photo
      this.mark(this.kept.objects);
      this.keep();
    } catch {
      // the connection is gone
    }
  }

  mark(objects = []) {
    for (const { box, name } of distinct(objects)) {
      const edges = box.map((edge) => edge * 100);
      const outline = document.createElement("div"), dot = document.createElement("button");
      outline.className = "visual-search-object";
      spread(outline, edges);
      dot.type = "button";
      dot.setAttribute("aria-label", name ? `${this.words("object")}: ${name}` : this.words("object"));
      dot.addEventListener("click", () => { this.setBox(edges); this.cropped(); });
      outline.append(dot);
      this.stage.append(outline);
    }
  }
}

for (const form of document.querySelectorAll("[data-visual-search-form]")) new Widget(form);
