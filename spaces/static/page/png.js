// Text inside a PNG: says that a portrait is synthetic, and how to make it again.
// Owns the chunks (PNG specification, section 11.3.4). Does not know what is written.

const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});
const HEADER_BYTES = 33; // signature and IHDR

function checksum(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function textChunk(key, text) {
  const body = new TextEncoder().encode(`tEXt${key}\0${text}`); // ASCII only
  const chunk = new Uint8Array(body.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length - 4);
  chunk.set(body, 4);
  view.setUint32(body.length + 4, checksum(body));
  return chunk;
}

/** Return a PNG (Uint8Array) with the texts of an object behind its header. */
export function withTexts(png, texts) {
  const chunks = Object.entries(texts).map(([key, text]) => textChunk(key, text));
  const parts = [png.slice(0, HEADER_BYTES), ...chunks, png.slice(HEADER_BYTES)];
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of parts) {
    result.set(part, position);
    position += part.length;
  }
  return result;
}
