// The file that `python -m trc_lib export --format web` writes: the letters TRCW, the length of the
// header, the header (JSON), the weights (see `unpacked`) and the CRC-32 of all that.

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** float32 numbers: deflated, and before that their first bytes stood together, their second ones, ... */
export async function unpacked(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const apart = new Uint8Array(await new Response(stream).arrayBuffer()), count = apart.length / 4;
  const together = new Uint8Array(apart.length);
  for (let part = 0; part < 4; part++) {
    for (let i = 0; i < count; i++) together[4 * i + part] = apart[part * count + i];
  }
  return new Float32Array(together.buffer);
}

/** The header of a file and its weights, ``{name: {shape, data}}``; an error if it is damaged. */
export async function read_network(view) {
  const bytes = new Uint8Array(view.buffer ?? view, view.byteOffset ?? 0, view.byteLength);
  const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), end = bytes.length - 4;
  if (end < 8 || String.fromCharCode(...bytes.subarray(0, 4)) !== "TRCW") {
    throw new Error("this is not a network for the web");
  }
  if (words.getUint32(end, true) !== crc32(bytes.subarray(0, end))) {
    throw new Error("the file of the network is damaged");
  }
  const start = 8 + words.getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const numbers = await unpacked(bytes.subarray(start, end)), weights = {};
  let at = 0;
  for (const [name, shape] of header.arrays) {
    const size = shape.reduce((product, each) => product * each, 1);
    weights[name] = { shape, data: numbers.subarray(at, at += size) };
  }
  return { header, weights };
}
