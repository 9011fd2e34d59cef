"use strict";
// Finds a number n such that SHA-256(puzzle + "." + n) begins with enough zero
// bits, and shows it in a cookie at the next request.
(() => {
  const K = new Int32Array(64);
  const H0 = new Int32Array(8);
  for (let n = 2, i = 0; i < 64; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) { prime = false; break; }
    if (!prime) continue;
    if (i < 8) H0[i] = (Math.sqrt(n) % 1) * 4294967296;
    K[i++] = (Math.cbrt(n) % 1) * 4294967296;
  }
  const w = new Int32Array(64);
  // first returns the first 32 bits of the hash of a text of at most 119 ASCII characters.
  function first(text) {
    const h = Int32Array.from(H0);
    const blocks = text.length > 55 ? 2 : 1;
    for (let b = 0; b < blocks; b++) {
      w.fill(0, 0, 16);
      for (let i = 0; i < 64; i++) {
        const p = b * 64 + i;
        const c = p < text.length ? text.charCodeAt(p) : p === text.length ? 0x80 : 0;
        w[i >> 2] |= c << (24 - 8 * (i & 3));
      }
      if (b === blocks - 1) w[15] = text.length * 8;
      for (let i = 16; i < 64; i++) {
        const x = w[i - 15], y = w[i - 2];
        const s0 = (x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ (x >>> 3);
        const s1 = (y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ (y >>> 10);
        w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
      }
      let [a, bb, c, d, e, f, g, hh] = h;
      for (let i = 0; i < 64; i++) {
        const S1 = (e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7);
        const t1 = (hh + S1 + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
        const S0 = (a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10);
        const t2 = (S0 + ((a & bb) ^ (a & c) ^ (bb & c))) | 0;
        hh = g; g = f; f = e; e = (d + t1) | 0; d = c; c = bb; bb = a; a = (t1 + t2) | 0;
      }
      const v = [a, bb, c, d, e, f, g, hh];
      for (let i = 0; i < 8; i++) h[i] = (h[i] + v[i]) | 0;
    }
    return h[0];
  }
  const root = document.getElementById("challenge");
  const puzzle = root.dataset.puzzle, bits = Number(root.dataset.bits), cookie = root.dataset.cookie;
  const state = document.getElementById("state"), go = document.getElementById("go");
  let n = 0;
  function work() {
    for (let i = 0; i < 20000; i++, n++) {
      if (Math.clz32(first(puzzle + "." + n)) >= bits) {
        document.cookie = cookie + "=" + puzzle + "." + n + "; Path=/; SameSite=Lax; Max-Age=" + root.dataset.age + (location.protocol === "https:" ? "; Secure" : "");
        if (!document.cookie.includes(puzzle)) {
          state.textContent = "Your browser does not keep cookies for this site. Allow them, or wait and try again.";
          return;
        }
        state.textContent = "Done. Go back and log in again.";
        go.hidden = false;
        go.focus();
        return;
      }
    }
    setTimeout(work, 0);
  }
  work();
})();
