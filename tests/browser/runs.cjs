// Everything that reads a run to its end through the plain client: node runs.cjs SERVER
// Says "started" when all runs are under way, and ends with what each reader has got, as one line of JSON.

const { setTimeout: sleep } = require("node:timers/promises");
const { Client } = require("@langchain/langgraph-sdk");

const client = new Client({ apiUrl: process.argv[2] });
const asked = { input: { messages: [{ type: "human", content: "What is slack water?", id: "asked" }] } };

async function collect(stream, isLast = () => false) {
  const parts = [];
  for await (const part of stream) {
    parts.push(part);
    if (isLast(part)) break;
  }
  return parts;
}

const texts = ({ messages }) => messages.map(({ content }) => content);

/** A run on a thread of its own, in the background. */
async function begin(options = {}) {
  const { thread_id } = await client.threads.create();
  return client.runs.create(thread_id, "chat", { ...asked, ...options });
}

/** What `wait` and `join` of this client need: they do not come back by themselves when they are cut off. */
async function until(thread, run, answer) {
  let cuts = 0;
  for (;;) {
    try {
      return { texts: texts(await answer), cuts };
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // of fetch: the connection, not the answer
      cuts += 1;
      await sleep(200);
      answer = client.runs.join(thread, run);
    }
  }
}

const readers = {
  async stream(began) {
    const { thread_id } = await client.threads.create();
    let run_id;
    const onRunCreated = (created) => began((run_id = created.run_id));
    const options = { streamMode: ["values", "messages-tuple", "updates"], onDisconnect: "cancel", onRunCreated };
    const parts = await collect(client.runs.stream(thread_id, "chat", { ...asked, ...options }));
    return { run_id, parts };
  },
  async stateless(began) {
    let run_id;
    const onRunCreated = (created) => began((run_id = created.run_id));
    const parts = await collect(client.runs.stream(null, "chat", { ...asked, streamMode: "updates", onRunCreated }));
    return { run_id, parts };
  },
  async joinStream(began) {
    const { thread_id, run_id } = await begin({ streamMode: ["values", "messages"] });
    began();
    const options = { lastEventId: "-1", streamMode: ["values"] }; // of what the run publishes
    return { run_id, parts: await collect(client.runs.joinStream(thread_id, run_id, options)) };
  },
  async threadStream(began) {
    const { thread_id, run_id } = await begin();
    began();
    const page = new AbortController(); // it has no end of its own
    const isLast = ({ event, data }) => event === "metadata" && data.status === "run_done";
    const parts = await collect(client.threads.joinStream(thread_id, { lastEventId: "-", signal: page.signal }), isLast);
    page.abort();
    return { run_id, parts };
  },
  /** Protocol v2: what the client recommends now. */
  async thread(began) {
    const thread = client.threads.stream({ assistantId: "chat" });
    const { run_id } = await thread.run.start(asked);
    began();
    const said = [];
    for await (const message of thread.messages) said.push(await collect(message.text));
    const values = await thread.output;
    await thread.close();
    return { run_id, said, texts: texts(values) };
  },
  async join(began) {
    const { thread_id, run_id } = await begin();
    began();
    return { run_id, ...(await until(thread_id, run_id, client.runs.join(thread_id, run_id))) };
  },
  async wait(began) {
    const { thread_id } = await client.threads.create();
    const answer = client.runs.wait(thread_id, "chat", asked);
    answer.catch(() => {}); // looked at below, when the run has a name
    let runs = [];
    while (!runs.length) runs = await client.runs.list(thread_id); // the client tells its name only with its values
    began();
    return { run_id: runs[0].run_id, ...(await until(thread_id, runs[0].run_id, answer)) };
  },
};

async function main() {
  let left = Object.keys(readers).length;
  const began = () => {
    left -= 1;
    if (left === 0) console.log("started");
  };
  const results = await Promise.all(
    Object.entries(readers).map(async ([name, read]) => [name, await read(began)]),
  );
  console.log(JSON.stringify(Object.fromEntries(results)));
}

main();
