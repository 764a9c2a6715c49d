// Numbers and genes out of the text they are packed in, as `_map_data.py` and `_genes.py` pack them.

/** The bytes in a text of base 64, deflated. */
export async function inflate(text) {
  const bytes = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(text)
    : Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The numbers in such a text. */
export async function unpack(text, Kind) {
  return new Kind((await inflate(text)).buffer);
}

/** Anything that was JSON in such a text. */
export async function unpackJson(text) {
  return JSON.parse(new TextDecoder().decode(await inflate(text)));
}

/** The counts of a gene at every spot: bytes of gaps and of counts less one, where 255 stands for itself and goes on. */
export function decodeGene(gaps, counts, n) {
  const values = new Float32Array(n);
  let spot = 0;
  let at = 0;
  for (let g = 0; g < gaps.length; g++) {
    spot += gaps[g];
    if (gaps[g] === 255) continue;
    let value = 1;
    while (counts[at] === 255) value += counts[at++];
    values[spot++] = value + counts[at++];
  }
  return values;
}

const KEPT = 24; // genes that stay unpacked, besides the markers

/** All genes of the page. Their groups are unpacked when a gene is asked for; `load` gives the text of one. */
export class GeneStore {
  constructor({ index, n, depth, load }) {
    Object.assign(this, { index, n, load });
    this.scale = Float32Array.from(depth, (d) => index.target / Math.max(d, 1));
    this.groups = new Map();
    this.kept = new Map();
  }

  async open() {
    this.names = await unpackJson(this.index.names);
    this.sizes = await unpack(this.index.sizes, Uint32Array);
    this.lower = this.names.map((name) => name.toLowerCase());
    return this;
  }

  /** The gene of a name, as written or in other letters, or -1. */
  find(name) {
    const exact = this.names.indexOf(name);
    return exact >= 0 ? exact : this.lower.indexOf(name.trim().toLowerCase());
  }

  /** Genes whose names begin with a text, then those that contain it, each by the alphabet. */
  search(text, most = 12) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return [];
    const matches = [[], []];
    this.lower.forEach((name, gene) => {
      const at = name.indexOf(wanted);
      if (at >= 0) matches[Number(at > 0)].push(gene);
    });
    const order = (a, b) => this.lower[a].length - this.lower[b].length || (this.lower[a] < this.lower[b] ? -1 : 1);
    const first = matches[0].sort(order).slice(0, most);
    return [...first, ...matches[1].sort(order).slice(0, most - first.length)];
  }

  /** Counts of a gene at every spot. */
  async counts(gene) {
    const kept = this.kept.get(gene);
    if (kept) return kept;
    const { starts, markers } = this.index;
    let group = starts.length - 1;
    while (starts[group] > gene) group--;
    const [first, last] = [starts[group], starts[group + 1] ?? this.names.length];
    if (!this.groups.has(group)) {
      this.groups.clear(); // one at a time: neighbours are seldom asked for together
      this.groups.set(group, Promise.resolve(this.load(group)).then(inflate));
    }
    let bytes;
    try {
      bytes = await this.groups.get(group);
    } catch (error) {
      this.groups.delete(group);
      throw error;
    }
    let gaps = 0;
    let counts = 0;
    for (let g = first; g < last; g++) {
      counts += this.sizes[2 * g];
      if (g < gene) {
        gaps += this.sizes[2 * g];
        counts += this.sizes[2 * g + 1];
      }
    }
    const values = decodeGene(
      bytes.subarray(gaps, gaps + this.sizes[2 * gene]),
      bytes.subarray(counts, counts + this.sizes[2 * gene + 1]),
      this.n,
    );
    if (gene >= markers && this.kept.size >= markers + KEPT) {
      this.kept.delete([...this.kept.keys()].find((g) => g >= markers)); // the one asked for first
    }
    this.kept.set(gene, values);
    return values;
  }

  /** Counts of a gene as of a spot of median depth, or their logarithm, log(1 + x). */
  async values(gene, log = true) {
    const counts = await this.counts(gene);
    const { scale } = this;
    return log ? counts.map((c, i) => (c === 0 ? 0 : Math.log1p(c * scale[i]))) : counts.map((c, i) => c * scale[i]);
  }

  /** The mean of several genes. */
  async mean(genes, log = true) {
    const sum = new Float32Array(this.n);
    for (const gene of genes) {
      const values = await this.values(gene, log);
      for (let i = 0; i < sum.length; i++) sum[i] += values[i];
    }
    return sum.map((v) => v / Math.max(genes.length, 1));
  }
}
