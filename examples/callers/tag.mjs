// Tags pictures in a browser with onnxruntime-web, on an ONNX bundle of edgepress; tag.html shows how it is called.
//
//   npm install onnxruntime-web        # serve node_modules/onnxruntime-web/dist, this file and the bundle from one host
//
//   const tagger = await open("bundle/", ort);
//   const {logits, tags} = await tagger.tag(await (await fetch("picture.jpg")).blob());
//
// docs/bundle.md of edgepress describes every step. The browser decodes and turns the picture; it is scaled here, because
// a canvas scales by another kernel. It has every resize with `area-cubic`, `bilinear-aa` and `bicubic-aa`, and refuses
// `bilinear` by name, as it does label groups and isotonic calibration.

export async function open(folder, ort) {
  const manifest = await (await fetch(folder + "manifest.json")).json();
  const {size, interpolation = "area-cubic"} = manifest.preprocess;
  if (!(interpolation in STRETCHED)) {
    throw new Error(`interpolation ${interpolation}: this program has ${Object.keys(STRETCHED).join(", ")}`);
  }
  const {calibrator, thresholds, groups} = manifest.decisions ?? {};
  if (groups || calibrator?.method === "isotonic") {
    throw new Error("label groups and isotonic calibration are not in this program; see docs/bundle.md");
  }
  const session = await ort.InferenceSession.create(folder + manifest.model, {executionProviders: ["wasm"]});
  const tag = async (blob) => {
    const pixels = prepare(await decode(blob), manifest.preprocess);
    const answers = await session.run({images: new ort.Tensor("uint8", pixels, [1, size, size, 3])});
    const logits = Array.from(answers.logits.data);
    // Without a fit: the sigmoid, and 0.5.
    const probabilities = logits.map((z, c) => 1 / (1 + Math.exp(-(z * (calibrator?.slopes[c] ?? 1) + (calibrator?.offsets[c] ?? 0)))));
    const tags = manifest.labels.filter((_, c) => probabilities[c] >= (thresholds?.[c] ?? 0.5));
    return {logits, probabilities, tags};
  };
  return {labels: manifest.labels, tag};
}

// {height, width, pixels}: red, green and blue of an upright picture, without any conversion of colours.
export async function decode(blob) {
  const options = {imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none"};
  const bitmap = await createImageBitmap(blob, options);
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  const {data, height, width} = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return {height, width, pixels: Uint8Array.from({length: height * width * 3}, (_, i) => data[Math.floor(i / 3) * 4 + (i % 3)])};
}

// For every target pixel the source pixels that it covers, and by how much.
function area(source, target) {
  return Array.from({length: target}, (_, to) => {
    const start = (to * source) / target, end = Math.min(((to + 1) * source) / target, source);
    const taps = [];
    for (let at = Math.floor(start); at < end; at++) {
      const covered = Math.min(at + 1, end) - Math.max(at, start);
      if (covered >= 1e-3) taps.push([at, covered]);
    }
    const total = taps.reduce((sum, [, covered]) => sum + covered, 0);
    return taps.map(([at, covered]) => [at, covered / total]);
  });
}

// For every target pixel four source pixels and their weights in 1/2048: Keys' kernel, A = -0.75.
function cubic(source, target) {
  const a = -0.75;
  return Array.from({length: target}, (_, to) => {
    const x = Math.fround(((to + 0.5) * source) / target - 0.5), left = Math.floor(x), f = Math.fround(x - left);
    const near = (g) => ((a + 2) * g - (a + 3)) * g * g + 1;
    const weights = [((a * (f + 1) - 5 * a) * (f + 1) + 8 * a) * (f + 1) - 4 * a, near(f), near(1 - f)];
    weights.push(1 - weights[0] - weights[1] - weights[2]);
    return weights.map((w, k) => [Math.min(Math.max(left - 1 + k, 0), source - 1), Math.round(w * 2048)]);
  });
}

// Both axes of [height, width, 3] by their taps; the values are not rounded.
function scale(values, height, width, down, right) {
  const rows = new Float64Array(down.length * width * 3), result = new Float64Array(down.length * right.length * 3);
  down.forEach((taps, to) => {
    for (const [at, weight] of taps) for (let i = 0; i < width * 3; i++) rows[to * width * 3 + i] += weight * values[at * width * 3 + i];
  });
  right.forEach((taps, to) => {
    for (const [at, weight] of taps) {
      for (let y = 0; y < down.length; y++) {
        for (let c = 0; c < 3; c++) result[(y * right.length + to) * 3 + c] += weight * rows[(y * width + at) * 3 + c];
      }
    }
  });
  return result;
}

const roundHalfToEven = (x) => {
  const near = Math.round(x * 1e4) / 1e4, floor = Math.floor(near);
  return near - floor === 0.5 ? floor + (floor % 2) : Math.round(near);
};

// For every target pixel its taps in 1/2^22 by a filter that ends at `support` on either side, as in Pillow.
function filter(source, target, shape, support) {
  const wide = Math.max(source / target, 1);
  return Array.from({length: target}, (_, to) => {
    const centre = ((to + 0.5) * source) / target;
    const first = Math.max(Math.floor(centre - support * wide + 0.5), 0);
    const last = Math.min(Math.floor(centre + support * wide + 0.5), source);
    const taps = Array.from({length: last - first}, (_, k) => shape(Math.abs((first + k - centre + 0.5) / wide)));
    const total = taps.reduce((sum, weight) => sum + weight, 0);
    return taps.map((weight, k) => [first + k, Math.sign(weight) * Math.round((Math.abs(weight) / total) * 2 ** 22)]);
  });
}
const triangle = (x) => Math.max(0, 1 - x);
const keys = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0);
const byte = (x) => Math.min(Math.max(Math.floor(x), 0), 255);
const same = (length) => Array.from({length}, (_, at) => [[at, 1]]);

// Along the rows, rounded to bytes, and then along the columns.
const filtered = (shape, support) => ({height, width, pixels}, tall, wide) => {
  const rows = scale(pixels, height, width, same(height), width === wide ? same(width) : filter(width, wide, shape, support));
  const bytes = width === wide ? rows : rows.map((x) => byte(x / 2 ** 22 + 0.5));
  if (height === tall) return Uint8Array.from(bytes);
  return Uint8Array.from(scale(bytes, height, wide, filter(height, tall, shape, support), same(wide)), (x) => byte(x / 2 ** 22 + 0.5));
};

function areaCubic({height, width, pixels}, tall, wide) {
  const [h, w] = [Math.min(height, tall), Math.min(width, wide)];
  if (h !== height || w !== width) {
    const mean = scale(pixels, height, width, area(height, h), area(width, w));
    const halved = height === 2 * h && width === 2 * w;
    pixels = Uint8Array.from(mean, halved ? (x) => Math.floor(x + 0.5) : roundHalfToEven);
  }
  if (h !== tall || w !== wide) {
    pixels = Uint8Array.from(scale(pixels, h, w, cubic(h, tall), cubic(w, wide)), (x) => byte((x + 2 ** 21) / 2 ** 22));
  }
  return pixels;
}

const STRETCHED = {"area-cubic": areaCubic, "bilinear-aa": filtered(triangle, 1), "bicubic-aa": filtered(keys, 2)};
const halfToEven = (x) => (x - Math.floor(x) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

// A part of a picture, or a picture in a larger square that is black elsewhere.
function cut({width, pixels}, top, left, tall, wide) {
  const part = new Uint8Array(tall * wide * 3), height = pixels.length / width / 3;
  for (let y = Math.max(0, -top); y < Math.min(tall, height - top); y++) {
    for (let i = Math.max(0, -left) * 3; i < Math.min(wide, width - left) * 3; i++) {
      part[y * wide * 3 + i] = pixels[((y + top) * width + left) * 3 + i];
    }
  }
  return {height: tall, width: wide, pixels: part};
}

// A picture of any size to uint8 [size, size, 3], by the manifest's `preprocess`.
export function prepare(picture, {size, resize, interpolation = "area-cubic", crop_fraction: share}) {
  const {height, width} = picture, stretched = STRETCHED[interpolation];
  if (resize === "letterbox") {
    const [tall, wide] = [height, width].map((side) => Math.max(1, halfToEven(side * (size / Math.max(height, width)))));
    const [top, left] = [tall, wide].map((side) => Math.floor((size - side) / 2));
    return cut({width: wide, pixels: stretched(picture, tall, wide)}, -top, -left, size, size).pixels;
  }
  if (resize === "crop") {
    const side = Math.max(1, halfToEven(Math.min(height, width) * share));
    picture = cut(picture, Math.floor((height - side) / 2), Math.floor((width - side) / 2), side, side);
  }
  return stretched(picture, size, size);
}
