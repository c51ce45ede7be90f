// Faces in the browser: seed -> z -> ws -> pixels, with the graphs that `ehmfaces model export` writes.
// Owns the two sessions and mixing. Knows no buttons and no files.

import * as ort from "./ort.wasm.min.mjs";
import { latentFromSeed } from "./random.js";

ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;

export class Faces {
  /** Load model.json, then both graphs. */
  static async load() {
    const facts = await (await fetch("model.json")).json();
    const [mapping, synthesis] = await Promise.all(
      ["mapping.onnx", "w.onnx"].map((name) => ort.InferenceSession.create(name)),
    );
    return new Faces(facts, mapping, synthesis);
  }

  constructor(facts, mapping, synthesis) {
    Object.assign(this, { facts, mapping, synthesis });
  }

  /** Return ws [num_ws * w_dim] of a seed. */
  async ws(seed, truncation) {
    const z = Float32Array.from(latentFromSeed(seed, this.facts.z_dim));
    const feeds = {
      z: new ort.Tensor("float32", z, [1, this.facts.z_dim]),
      truncation_psi: new ort.Tensor("float32", Float32Array.of(truncation), []),
    };
    return (await this.mapping.run(feeds)).ws.data;
  }

  /** Return ImageData and milliseconds; `mix` is null or { seed, styles }, styles being layer numbers. */
  async make(seed, truncation, mix = null) {
    const started = performance.now();
    const { num_ws: layers, w_dim: size, img_resolution: side } = this.facts;
    const ws = Float32Array.from(await this.ws(seed, truncation));
    if (mix) {
      const other = await this.ws(mix.seed, truncation);
      for (const layer of mix.styles) ws.set(other.subarray(layer * size, (layer + 1) * size), layer * size);
    }
    const feeds = { ws: new ort.Tensor("float32", ws, [1, layers, size]) };
    const img = (await this.synthesis.run(feeds)).img.data; // [3, side, side], about [-1, 1]
    return { image: toImageData(img, side), milliseconds: performance.now() - started };
  }
}

function toImageData(img, side) {
  const image = new ImageData(side, side);
  const plane = side * side;
  for (let pixel = 0; pixel < plane; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = img[channel * plane + pixel] * 127.5 + 128;
      image.data[4 * pixel + channel] = Math.floor(Math.min(255, Math.max(0, value)));
    }
    image.data[4 * pixel + 3] = 255;
  }
  return image;
}
