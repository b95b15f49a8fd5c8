// A circuit breaker: after failures in a row a runner is left alone for a while, then one request tries it again.

const FAILURES = 3;
const FIRST_MS = 10 * 1000;
const LAST_MS = 5 * 60 * 1000;

export class Breaker {
  failures = 0;
  openUntil = 0;
  openFor = 0;
  why = "";

  // event: "failed" with `why`, "worked", "look", or "try" (the one that may try an open runner again asks so).
  note({ event, why }, now) {
    if (event === "worked") Object.assign(this, { failures: 0, openUntil: 0, openFor: 0, why: "" });
    if (event === "failed") this.fail(why, now);
    const open = this.openUntil > 0;
    let admits = now >= this.openUntil;
    // Whoever tries an open runner closes the door behind itself: others wait until it is known how that went.
    if (open && admits && event === "try") this.openUntil = now + FIRST_MS;
    else if (open && event !== "try") admits = false;
    return { open, admits, why: this.why, until: this.openUntil };
  }

  fail(why, now) {
    this.why = String(why ?? "").slice(0, 200);
    if (++this.failures < FAILURES) return;
    this.openFor = Math.min(this.openFor ? this.openFor * 2 : FIRST_MS, LAST_MS);
    this.openUntil = now + this.openFor;
  }
}
