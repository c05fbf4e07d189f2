// Every other call of the plain client, each with what its caller expects of it: node calls.cjs SERVER

const assert = require("node:assert/strict");
const { Client } = require("@langchain/langgraph-sdk");

const client = new Client({ apiUrl: process.argv[2] });
const GONE = { status: 404 };
const YEARLY = "0 0 1 1 *";

const calls = {
  async assistants() {
    const { assistants } = client;
    const made = await assistants.create({ graphId: "line", name: "Liner", metadata: { of: "calls" }, context: { n: 1 } });
    assert.equal((await assistants.get(made.assistant_id)).name, "Liner");
    const changed = await assistants.update(made.assistant_id, { name: "Ferry", graphId: "line" });
    assert.equal(changed.version, 2);
    assert.deepEqual((await assistants.getVersions(made.assistant_id)).map((one) => one.version), [2, 1]);
    assert.equal((await assistants.setLatest(made.assistant_id, 1)).name, "Liner");
    assert.deepEqual((await assistants.search({ metadata: { of: "calls" }, limit: 5 })).map((one) => one.version), [1]);
    const page = await assistants.search({ graphId: "line", limit: 1, includePagination: true });
    assert.equal(page.assistants.length, 1);
    assert.equal(page.next, "1");
    assert.equal(await assistants.count({ metadata: { of: "calls" } }), 1);
    assert.ok((await assistants.getGraph(made.assistant_id, { xray: true })).nodes.some(({ id }) => id === "step"));
    assert.equal((await assistants.getSchemas(made.assistant_id)).graph_id, "line");
    assert.deepEqual(await assistants.getSubgraphs(made.assistant_id, { recurse: true }), {});
    await assistants.delete(made.assistant_id);
    await assert.rejects(assistants.get(made.assistant_id), GONE);
  },

  async threads() {
    const { threads } = client;
    const made = await threads.create({ metadata: { of: "calls" }, graphId: "line", ttl: 60 });
    const id = made.thread_id;
    await threads.update(id, { metadata: { seen: true } });
    assert.deepEqual((await threads.get(id)).metadata, { of: "calls", graph_id: "line", seen: true });
    await client.runs.wait(id, "line", { input: { n: 2 } });
    const state = await threads.getState(id);
    assert.deepEqual(state.values.log, ["step-1", "step-2"]);
    const past = await threads.getHistory(id, { limit: 2 });
    assert.equal(past.length, 2);
    assert.deepEqual((await threads.getState(id, past[1].checkpoint)).values.log, ["step-1"]);
    assert.deepEqual((await threads.getState(id, past[1].checkpoint.checkpoint_id)).values.log, ["step-1"]);
    await threads.updateState(id, { values: { log: ["by hand"] }, asNode: "step" });
    assert.equal((await threads.getState(id, undefined, { subgraphs: true })).values.log.at(-1), "by hand");
    const copy = await threads.copy(id);
    assert.equal((await threads.getState(copy.thread_id)).values.log.at(-1), "by hand");
    assert.equal(await threads.count({ metadata: { of: "calls" } }), 2);
    const found = await threads.search({ metadata: { of: "calls" }, sortBy: "created_at", sortOrder: "asc", limit: 9 });
    assert.deepEqual(found.map((one) => one.thread_id), [id, copy.thread_id]);
    assert.equal((await threads.prune([copy.thread_id])).pruned_count, 1);
    await threads.delete(id);
    await assert.rejects(threads.get(id), GONE);
  },

  async runs() {
    const { runs } = client;
    const { thread_id } = await client.threads.create();
    const slow = await runs.create(thread_id, "line", { input: { n: 9, sleep: 5 } });
    const waits = await runs.create(thread_id, "line", { input: { n: 1 }, multitaskStrategy: "enqueue" });
    assert.deepEqual((await runs.list(thread_id)).map((one) => one.run_id), [waits.run_id, slow.run_id]);
    const refused = runs.create(thread_id, "line", { input: {}, multitaskStrategy: "reject" });
    await assert.rejects(refused, { status: 409 });
    await runs.cancel(thread_id, slow.run_id, true);
    assert.equal((await runs.get(thread_id, slow.run_id)).status, "interrupted");
    await runs.join(thread_id, waits.run_id);
    assert.equal((await runs.get(thread_id, waits.run_id)).status, "success");
    await runs.delete(thread_id, waits.run_id);
    await assert.rejects(runs.get(thread_id, waits.run_id), GONE);
    const batch = await runs.createBatch([
      { assistantId: "line", input: { n: 1 } },
      { assistantId: "line", input: { n: 9, sleep: 5 } },
    ]);
    assert.equal(batch.length, 2);
    await runs.cancelMany({ threadId: batch[1].thread_id, runIds: [batch[1].run_id] });
    const [first, second] = await Promise.all(batch.map((one) => runs.join(one.thread_id, one.run_id)));
    assert.deepEqual(first.log, ["step-1"]);
    assert.equal(second.log?.length ?? 0, 0);
    await assert.rejects(runs.wait(null, "line", { input: null }), /EmptyInputError/);
  },

  async threadStream() {
    const thread = client.threads.stream({ assistantId: "chat" });
    await thread.run.start({ input: { messages: [{ type: "human", content: "Please publish." }] } });
    await thread.values;
    assert.ok(thread.interrupted);
    const [{ interruptId, payload }] = thread.interrupts;
    assert.deepEqual(payload, { question: "Shall I publish this?" });
    await thread.input.respond({ namespace: [], interrupt_id: interruptId, response: "yes" });
    await thread.close(); // its values end at the question
    const [answered] = await client.runs.list(thread.threadId, { limit: 1 });
    const { messages } = await client.runs.join(thread.threadId, answered.run_id);
    assert.equal(messages.at(-2).content, "You decided: yes.");
  },

  async store() {
    const { store } = client;
    await store.putItem(["calls", "a"], "one", { n: 1 });
    await store.putItem(["calls", "b"], "two", { n: 2 }, { ttl: 5 });
    assert.deepEqual((await store.getItem(["calls", "a"], "one")).value, { n: 1 });
    assert.equal(await store.getItem(["calls", "a"], "none"), null);
    const { items } = await store.searchItems(["calls"], { filter: { n: { $gt: 1 } } });
    assert.deepEqual(items.map((item) => item.key), ["two"]);
    const { namespaces } = await store.listNamespaces({ prefix: ["calls"] });
    assert.deepEqual(namespaces.sort(), [["calls", "a"], ["calls", "b"]]);
    await store.deleteItem(["calls", "a"], "one");
    assert.equal(await store.getItem(["calls", "a"], "one"), null);
  },

  async crons() {
    const { crons } = client;
    const { thread_id } = await client.threads.create();
    const made = await crons.create("line", { schedule: YEARLY, timezone: "Europe/Berlin", input: { n: 1 }, metadata: { of: "calls" } });
    const ofThread = await crons.createForThread(thread_id, "line", { schedule: YEARLY, input: { n: 1 } });
    assert.equal(ofThread.thread_id, thread_id);
    assert.equal((await crons.update(made.cron_id, { enabled: false })).enabled, false);
    assert.equal(await crons.count(), 2);
    assert.deepEqual((await crons.search({ threadId: thread_id })).map((one) => one.cron_id), [ofThread.cron_id]);
    await crons.delete(made.cron_id);
    await crons.delete(ofThread.cron_id);
    assert.equal(await crons.count(), 0);
  },
};

async function main() {
  for (const [name, call] of Object.entries(calls)) {
    await call().catch((error) => {
      throw new Error(`${name}: ${error.message}`, { cause: error });
    });
  }
}

main();
