// The page: fields and buttons around `Faces`. Owns what is shown; computes nothing itself.

import { Faces } from "./faces.js";
import { withTexts } from "./png.js";

const SEED_MAX = 2 ** 32 - 1;
const field = (id) => document.getElementById(id);
const say = (text) => (field("status").textContent = text);
let faces = null;
let shown = null; // settings of the picture on the canvas
let busy = false;
let again = false;

function readSeed(id) {
  const seed = Number(field(id).value);
  if (field(id).value === "" || !Number.isInteger(seed) || seed < 0 || seed > SEED_MAX) {
    throw new RangeError(`Seed "${field(id).value}" is not a whole number from 0 to ${SEED_MAX}.`);
  }
  return seed;
}

function readSettings() {
  const settings = { seed: readSeed("seed"), truncation: Number(field("truncation").value), mix: null };
  if (field("mixing").checked) {
    const group = field("styles").value;
    settings.mix = { seed: readSeed("other"), group, styles: faces.facts.style_groups[group] };
  }
  return settings;
}

async function update() {
  field("truncation-value").textContent = Number(field("truncation").value).toFixed(2);
  field("mix-fields").disabled = !field("mixing").checked;
  again = busy;
  if (busy || !faces) return;
  busy = true;
  try {
    const settings = readSettings();
    const { image, milliseconds } = await faces.make(settings.seed, settings.truncation, settings.mix);
    field("face").getContext("2d").putImageData(image, 0, 0);
    field("face").setAttribute("aria-label", `Portrait of seed ${settings.seed}, a person who does not exist`);
    shown = settings;
    field("save").disabled = false;
    say(`Made in ${milliseconds.toFixed(0)} ms on this device.`);
  } catch (error) {
    say(error.message);
  } finally {
    busy = false;
    if (again) update();
  }
}

function record() {
  const { facts } = faces;
  const { mix } = shown;
  return {
    ehmfaces_version: facts.ehmfaces_version,
    model_id: facts.model_id,
    model_hash: facts.model_hash,
    seed: mix ? null : shown.seed,
    truncation_psi: shown.truncation,
    truncation_cutoff: null,
    noise_mode: "const",
    mixing: mix && { row_seed: shown.seed, col_seed: mix.seed, col_styles: mix.styles },
    cutout: "none",
    portrait_format: "none",
    background: "none",
    synthetic: true,
    engine: "onnxruntime-web",
    precision: "float32",
  };
}

async function save() {
  const blob = await new Promise((resolve) => field("face").toBlob(resolve, "image/png"));
  const png = withTexts(new Uint8Array(await blob.arrayBuffer()), {
    Software: `ehmfaces ${faces.facts.ehmfaces_version}`,
    Description: faces.facts.description,
    ehmfaces: JSON.stringify(record()),
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([png], { type: "image/png" }));
  link.download = `seed${String(shown.seed).padStart(10, "0")}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function next() {
  field("seed").value = (Number(field("seed").value) + 1) % (SEED_MAX + 1) || 0;
  update();
}

async function start() {
  try {
    faces = await Faces.load();
  } catch (error) {
    say(`The model could not be loaded (${error.message}). Serve this folder over HTTP and reload.`);
    return;
  }
  const side = faces.facts.img_resolution;
  Object.assign(field("face"), { width: side, height: side });
  const wanted = new URLSearchParams(location.search).get("seed");
  if (wanted) field("seed").value = wanted;
  field("next").disabled = false;
  update();
}

for (const id of ["seed", "truncation", "mixing", "other", "styles"]) field(id).addEventListener("input", update);
field("next").addEventListener("click", next);
field("save").addEventListener("click", save);
start();
