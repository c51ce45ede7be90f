// Seed -> z, number for number as NumPy's RandomState(seed).randn draws it.
// Owns the Mersenne twister MT19937 and the polar method for normal numbers. Knows no network.
// Source: Matsumoto & Nishimura, "Mersenne Twister" (1998); Marsaglia & Bray (1964).

const LENGTH = 624;
const SHIFT = 397;

function seededState(seed) {
  const state = new Uint32Array(LENGTH);
  state[0] = seed;
  for (let i = 1; i < LENGTH; i++) {
    const before = state[i - 1] ^ (state[i - 1] >>> 30);
    state[i] = Math.imul(1812433253, before) + i;
  }
  return state;
}

function twist(state) {
  for (let i = 0; i < LENGTH; i++) {
    const joined = (state[i] & 0x80000000) | (state[(i + 1) % LENGTH] & 0x7fffffff);
    state[i] = state[(i + SHIFT) % LENGTH] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
  }
}

function* uniformNumbers(seed) {
  const state = seededState(seed);
  let position = LENGTH;
  const nextWord = () => {
    if (position === LENGTH) {
      twist(state);
      position = 0;
    }
    let word = state[position++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  };
  for (;;) {
    const high = nextWord() >>> 5;
    const low = nextWord() >>> 6;
    yield (high * 67108864 + low) / 9007199254740992;
  }
}

/** Return `count` standard normal numbers (float64) for a seed from 0 to 2**32 - 1. */
export function latentFromSeed(seed, count) {
  const uniform = uniformNumbers(seed);
  const draw = () => 2 * uniform.next().value - 1;
  const values = new Float64Array(count + 1);
  for (let i = 0; i < count; i += 2) {
    let x, y, square;
    do {
      x = draw();
      y = draw();
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const scale = Math.sqrt((-2 * Math.log(square)) / square);
    values[i] = scale * y;
    values[i + 1] = scale * x;
  }
  return values.slice(0, count);
}
