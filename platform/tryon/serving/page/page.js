// The page of the service: one try-on with its layers, or a batch. It asks this service alone, by the public API.

const NUM_EXAMPLES = 3;
const POLL_MS = 1000;
const PARSE_COLOURS = "__PALETTE__";

const at = (id) => document.getElementById(id);
const files = { person: null, garment: [] };
let job = null;

function headers(more = {}) {
  const key = at("key").value.trim();
  return key ? { ...more, authorization: `Bearer ${key}` } : more;
}

class Fault extends Error {
  constructor(body) {
    super(body.message ?? "the service did not answer as it should");
    this.code = body.code;
    this.field = body.field;
  }
}

async function ask(path, options = {}) {
  let reply;
  for (let tried = 1; ; tried += 1) {
    try {
      reply = await fetch(path, { ...options, headers: headers(options.headers) });
    } catch {
      throw new Fault({ message: "the service cannot be reached", code: "unreachable" });
    }
    if (![429, 503].includes(reply.status) || tried === 5) break;
    say(`The service is busy; trying again (${tried} of 4) …`);
    await new Promise((done) => setTimeout(done, 1000 * Number(reply.headers.get("retry-after") ?? 2)));
  }
  if (reply.ok) return reply;
  const body = await reply.json().catch(() => ({ message: `the service answered ${reply.status}` }));
  if (reply.status === 401) at("key-label").hidden = false;
  throw new Fault(body);
}

function say(text) {
  at("status").textContent = text;
}

function show_fault(error) {
  at("fault").hidden = !error;
  at("fault").textContent = error ? `${error.message[0].toUpperCase()}${error.message.slice(1)}.` : "";
  if (error) say("");
}

function step(name, state) {
  const line = document.querySelector(`[data-step="${name}"]`);
  line.className = state;
  if (state === "runs") line.setAttribute("aria-current", "step");
  else line.removeAttribute("aria-current");
}

const data_url = (png, kind = "png") => `data:image/${kind};base64,${png}`;

function form(photos, options) {
  const body = new FormData();
  for (const [name, file] of Object.entries(photos)) body.append(`${name}_image`, file, "photo");
  body.append("options", JSON.stringify(options));
  return body;
}

function choose(slot, chosen) {
  if (!chosen.length) return;
  files[slot] = slot === "person" ? chosen[0] : chosen;
  const image = at(`${slot}-shown`);
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(chosen[0]);
  image.alt = chosen.length > 1 ? `${chosen.length} garments; the first is shown` : `The chosen ${slot}`;
  image.hidden = false;
  for (const button of document.querySelectorAll(`#${slot}-examples button`)) button.setAttribute("aria-pressed", "false");
  say(chosen.length > 1 ? `${chosen.length} garments: a batch.` : "");
  show_fault(null);
}

function set_up_slot(slot) {
  const input = at(slot);
  const drop = input.closest(".drop");
  input.addEventListener("change", () => choose(slot, [...input.files]));
  for (const kind of ["dragover", "dragenter"]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    choose(slot, [...event.dataTransfer.files]);
  });
  for (let i = 0; i < NUM_EXAMPLES; i += 1) {
    const button = document.createElement("button");
    const image = document.createElement("img");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    image.src = `/static/examples/${slot}-${i}.jpg`;
    image.alt = `Drawn ${slot} ${i + 1}`;
    image.loading = "lazy";
    button.append(image);
    button.addEventListener("click", async () => {
      const reply = await fetch(image.src);
      choose(slot, [new File([await reply.blob()], `${slot}-${i}.jpg`, { type: "image/jpeg" })]);
      button.setAttribute("aria-pressed", "true");
    });
    at(`${slot}-examples`).append(button);
  }
}

function layer(title, source) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  if (typeof source === "string") {
    const image = document.createElement("img");
    image.src = source;
    image.alt = title;
    figure.append(image);
  } else {
    source.setAttribute("role", "img");
    source.setAttribute("aria-label", title);
    figure.append(source);
  }
  figure.append(caption);
  at("layer-list").append(figure);
}

async function picture(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

async function parse_canvas(png) {
  const image = await picture(data_url(png));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const colour = PARSE_COLOURS[pixels.data[i]] ?? [0, 0, 0];
    for (let c = 0; c < 3; c += 1) pixels.data[i + c] = colour[c];
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

async function pose_canvas(file, keypoints, bones) {
  const image = await picture(URL.createObjectURL(file));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.globalAlpha = 0.5;
  context.drawImage(image, 0, 0);
  context.globalAlpha = 1;
  context.lineWidth = Math.max(2, canvas.width / 120);
  context.strokeStyle = context.fillStyle = "#d2410f";
  for (const [a, b] of bones) {
    if (!keypoints[a][2] || !keypoints[b][2]) continue;
    context.beginPath();
    context.moveTo(keypoints[a][0], keypoints[a][1]);
    context.lineTo(keypoints[b][0], keypoints[b][1]);
    context.stroke();
  }
  for (const [x, y, seen] of keypoints) {
    if (!seen) continue;
    context.beginPath();
    context.arc(x, y, context.lineWidth * 1.3, 0, 2 * Math.PI);
    context.fill();
  }
  return canvas;
}

async function try_one(person, garment, category) {
  at("steps").hidden = false;
  at("layer-list").replaceChildren();
  for (const name of ["person", "garment", "tryon"]) step(name, "");
  step("person", "runs");
  say("Looking for the person …");
  const seen = await (await ask("/api/v1/annotate", { method: "POST", body: form({ person }, { category }) })).json();
  step("person", "done");
  step("garment", "runs");
  say("Looking at the garment …");
  const worn = await (await ask("/api/v1/annotate", { method: "POST", body: form({ garment }, { category }) })).json();
  step("garment", "done");
  step("tryon", "runs");
  say("Trying it on …");
  const options = { category, output_format: "png", return_layers: true };
  const made = await (await ask("/api/v1/tryon", { method: "POST", body: form({ person, garment }, options) })).json();
  step("tryon", "done");

  const result = data_url(made.result_image);
  at("before").src = URL.createObjectURL(person);
  at("after").src = result;
  at("save").href = result;
  at("took").textContent = `${made.processing_time.toFixed(1)} s`;
  at("compare").hidden = false;
  layer("Pose", await pose_canvas(person, seen.person.keypoints, "__BONES__"));
  layer("Parse", await parse_canvas(seen.person.parse_image));
  layer("Garment mask", data_url(worn.garment.mask_image));
  for (const [name, png] of Object.entries(made.layers ?? {})) {
    layer(name[0].toUpperCase() + name.slice(1).replaceAll("_", " "), data_url(png));
  }
  at("layers").hidden = false;
  const notices = made.metadata.notices.join("; ");
  say(`Done.${notices ? ` Note: ${notices}.` : ""}`);
  at("result").focus({ preventScroll: true });
}

async function upload(file) {
  const body = new FormData();
  body.append("image", file, "photo");
  return (await (await ask("/api/v1/uploads", { method: "POST", body })).json()).upload_id;
}

async function try_many(person, garments, category) {
  say(`Handing in ${garments.length} garments …`);
  const person_id = await upload(person);
  const pairs = [];
  for (const garment of garments) pairs.push({ person_id, garment_id: await upload(garment), id: garment.name.slice(0, 200) });
  const body = JSON.stringify({ pairs, options: { category } });
  const handed = { method: "POST", body, headers: { "content-type": "application/json", "idempotency-key": crypto.randomUUID() } };
  job = (await (await ask("/api/v1/batch", handed)).json()).job_id;
  at("batch").hidden = false;
  at("batch-cancel").hidden = false;
  const rows = garments.map((garment) => {
    const row = at("batch-rows").insertRow();
    const image = document.createElement("img");
    image.src = URL.createObjectURL(garment);
    image.alt = garment.name;
    row.insertCell().append(image);
    row.insertCell().textContent = "waiting";
    row.insertCell();
    return row;
  });
  const shown = new Set();
  for (;;) {
    const told = await (await ask(`/api/v1/batch/${job}?limit=1000`)).json();
    const ended = told.completed + told.failed + told.cancelled;
    at("batch-progress").max = told.total;
    at("batch-progress").value = ended;
    at("batch-status").textContent = `${ended} of ${told.total}`;
    for (const item of told.items) {
      rows[item.index].cells[1].textContent = item.error && item.state === "failed" ? item.error.message : item.state;
      if (item.state === "done" && !shown.has(item.index)) {
        shown.add(item.index);
        const reply = await ask(`/api/v1/batch/${job}/results/${item.index}`);
        const image = document.createElement("img");
        image.src = URL.createObjectURL(await reply.blob());
        image.alt = `Result for ${item.id}`;
        const link = document.createElement("a");
        link.href = image.src;
        link.download = `tryon-${item.index}.jpg`;
        link.append(image);
        rows[item.index].cells[2].append(link);
      }
    }
    if (told.ended_at) break;
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
  at("batch-cancel").hidden = true;
  say("The batch has ended.");
}

at("pair").addEventListener("submit", async (event) => {
  event.preventDefault();
  show_fault(null);
  if (!files.person || !files.garment.length) {
    show_fault(new Error(`choose ${files.person ? "a garment" : "a person"} first`));
    at(files.person ? "garment" : "person").focus();
    return;
  }
  at("go").disabled = true;
  at("batch-rows").replaceChildren();
  at("batch").hidden = true;
  try {
    const category = at("category").value;
    if (files.garment.length > 1) await try_many(files.person, files.garment, category);
    else await try_one(files.person, files.garment[0], category);
  } catch (error) {
    for (const line of document.querySelectorAll("#steps .runs")) step(line.dataset.step, "");
    show_fault(error);
  } finally {
    at("go").disabled = false;
  }
});

at("batch-cancel").addEventListener("click", () => ask(`/api/v1/batch/${job}`, { method: "DELETE" }).catch(show_fault));

at("divide").addEventListener("input", ({ target }) => {
  document.querySelector(".pictures").style.setProperty("--at", `${target.value}%`);
  target.setAttribute("aria-valuetext", `${100 - target.value} % after`);
});

set_up_slot("person");
set_up_slot("garment");
