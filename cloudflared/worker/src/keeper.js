// State that outlives an isolate: a runner's circuit breaker, a caller's limits, what waits in the queue.
//
// Theory of operation. Each name ("runner:first", "caller:app", "task:ID") is one Durable Object when KEEPER is bound,
// else an object in this isolate's memory: then limits and breakers hold per isolate only. The same class does the work
// in both. A breaker's state is read through a copy of two seconds, so that a healthy path costs no round trip.
import { Breaker } from "./breaker.js";

const LEASE_MS = 15 * 60 * 1000; // an entry whose leave() was lost
const QUEUED_MS = 7 * 24 * 3600 * 1000;

export class Keeper {
  constructor(state) {
    this.storage = state?.storage;
    this.breaker = new Breaker();
    this.entries = new Map();
    this.minute = { at: 0, count: 0 };
  }

  async fetch(request) {
    const { verb, value } = await request.json();
    return Response.json(await this.do(verb, value));
  }

  async do(verb, value) {
    const now = Date.now();
    switch (verb) {
      case "enter": return this.enter(value, now);
      case "leave": this.entries.delete(value.id); return {};
      case "breaker": return this.breaker.note(value, now);
      case "queued": return this.queued(value, now);
      default: throw new Error(`unknown verb ${verb}`);
    }
  }

  enter({ perMinute, atOnce, id }, now) {
    for (const [one, at] of this.entries) if (now - at > LEASE_MS) this.entries.delete(one);
    if (now - this.minute.at >= 60000) this.minute = { at: now, count: 0 };
    if (this.minute.count >= perMinute)
      return { wait: Math.ceil((this.minute.at + 60000 - now) / 1000), why: `more than ${perMinute} requests in a minute` };
    if (this.entries.size >= atOnce) return { wait: 5, why: `more than ${atOnce} requests at once` };
    this.minute.count++;
    this.entries.set(id, now);
    return {};
  }

  // Notes, forgets or returns what waits in the queue under this name.
  async queued({ set, remove }, now) {
    if (set) {
      this.note = { ...set, at: now };
      await this.storage?.put("queued", this.note);
      await this.storage?.setAlarm?.(now + QUEUED_MS);
    } else if (remove) {
      this.note = null;
      await this.storage?.deleteAll();
    }
    this.note ??= await this.storage?.get("queued");
    return { queued: this.note ?? null };
  }

  async alarm() {
    await this.storage.deleteAll();
  }
}

const memory = new Map();
const MEMORY_MAX = 1000;

// Asks the keeper of this name. One that cannot be reached is replaced by this isolate's memory.
export async function ask(config, name, verb, value) {
  if (config.keeper) {
    try {
      const stub = config.keeper.get(config.keeper.idFromName(name));
      const response = await stub.fetch("https://keeper/", { method: "POST", body: JSON.stringify({ verb, value }) });
      return await response.json();
    } catch (error) {
      console.error(JSON.stringify({ event: "keeper_away", name, error: String(error) }));
    }
  }
  return local(name).do(verb, value);
}

function local(name) {
  let keeper = memory.get(name);
  if (!keeper) {
    if (memory.size >= MEMORY_MAX) memory.delete(memory.keys().next().value);
    memory.set(name, keeper = new Keeper());
  }
  return keeper;
}
