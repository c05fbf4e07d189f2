// A workspace that makes the calls which DeerFlow's page makes, on one origin: `/api/langgraph` by the SDK, the rest of `/api` by fetch.

import { createRoot } from "react-dom/client";
import { useState } from "react";

import { Client } from "@langchain/langgraph-sdk";
import { useStream } from "@langchain/langgraph-sdk/react";

const cookie = (name) => decodeURIComponent(document.cookie.match(`(?:^|; )${name}=([^;]*)`)?.[1] ?? "");
const withToken = (headers) => ({ ...headers, "X-CSRF-Token": cookie("csrf_token") });

const client = new Client({
  apiUrl: `${location.origin}/api/langgraph`,
  apiKey: null,
  onRequest: (_, init) => ({ ...init, headers: withToken(Object.fromEntries(new Headers(init.headers))) }),
});

async function call(method, path, body, headers = {}) {
  const answer = await fetch(`/api/${path}`, { method, body, headers: withToken(headers), credentials: "include" });
  const type = answer.headers.get("Content-Type") ?? "";
  return { status: answer.status, ...(type.includes("json") ? { data: await answer.json() } : { text: await answer.text() }) };
}
const json = (method, path, value) => call(method, path, JSON.stringify(value), { "Content-Type": "application/json" });

/** What its forms and buttons call, apart from the conversation. */
window.gateway = {
  initialize: (email, password) => json("POST", "v1/auth/initialize", { email, password }),
  login: (username, password) => call("POST", "v1/auth/login/local", new URLSearchParams({ username, password })),
  logout: () => call("POST", "v1/auth/logout"),
  models: () => call("GET", "models"),
  upload(threadId, name, text) {
    const form = new FormData();
    form.append("files", new File([text], name));
    return call("POST", `threads/${threadId}/uploads`, form);
  },
  artifact: (threadId, path) => call("GET", `threads/${threadId}/artifacts${path}`),
  tokens: (threadId) => call("GET", `threads/${threadId}/token-usage`),
  suggestions: (threadId, messages) => json("POST", `threads/${threadId}/suggestions`, { messages, n: 3 }),
  rename: (threadId, title) => client.threads.updateState(threadId, { values: { title } }).then(() => true),
  threads: () =>
    client.threads.search({
      limit: 50,
      offset: 0,
      sortBy: "updated_at",
      sortOrder: "desc",
      select: ["thread_id", "updated_at", "values", "metadata"],
    }),
  values: (threadId) => client.threads.getState(threadId).then((state) => state.values),
  /** The messages of all runs, oldest first, page by page from the newest of each. */
  async history(threadId, size) {
    const found = [];
    for (const run of await client.runs.list(threadId, { limit: 10, offset: 0 })) {
      let rows = [];
      let before = "";
      for (;;) {
        const page = await call("GET", `threads/${threadId}/runs/${run.run_id}/messages?limit=${size}${before}`);
        rows = [...page.data.data, ...rows];
        if (!page.data.has_more) break;
        before = `&before_seq=${page.data.data[0].seq}`;
      }
      found.unshift(...rows);
    }
    return found.map((row) => ({ seq: row.seq, id: row.content.id, type: row.content.type, caller: row.metadata.caller }));
  },
  /** As the page does it: by the SDK, and then once more. */
  async remove(threadId) {
    await client.threads.delete(threadId);
    return (await call("DELETE", `threads/${threadId}`)).status;
  },
};

function Workspace() {
  const asked = new URLSearchParams(location.search);
  const [threadId, setThreadId] = useState(asked.get("thread"));
  const [title, setTitle] = useState("");
  const [draft, setDraft] = useState("");
  const stream = useStream({
    client,
    assistantId: "lead_agent",
    threadId,
    reconnectOnMount: true,
    fetchStateHistory: { limit: 1 },
    onUpdateEvent: (update) => Object.values(update).forEach((values) => values?.title && setTitle(values.title)),
  });

  const send = async (event) => {
    event.preventDefault();
    const id = threadId ?? asked.get("new");
    asked.set("thread", id);
    history.replaceState(null, "", `?${asked}`);
    setDraft("");
    const files = window.attached ?? [];
    window.attached = [];
    await stream.submit(
      { messages: [{ type: "human", content: [{ type: "text", text: draft }], additional_kwargs: files.length ? { files } : {} }] },
      {
        threadId: id,
        streamMode: ["messages-tuple", "values", "updates", "custom", "events"],
        streamSubgraphs: true,
        streamResumable: true,
        onDisconnect: "continue",
        config: { recursion_limit: 1000 },
        context: { mode: "flash", thinking_enabled: false, is_plan_mode: false, subagent_enabled: false, thread_id: id },
      },
    );
    setThreadId(id);
  };
  return (
    <>
      <h1>{title || stream.values?.title || "New chat"}</h1>
      <ol>
        {stream.messages.map((message, place) => (
          <li key={message.id ?? place} className={message.type}>
            {typeof message.content === "string" ? message.content : message.content.map((part) => part.text ?? "").join("")}
          </li>
        ))}
      </ol>
      {stream.error && <p role="alert">{String(stream.error?.message ?? stream.error)}</p>}
      <form onSubmit={send}>
        <input aria-label="Message" value={draft} onChange={(event) => setDraft(event.target.value)} />
        <button disabled={stream.isLoading}>Send</button>
      </form>
      <button onClick={() => stream.stop()}>Stop</button>
      <output>{stream.isLoading ? "working" : "ready"}</output>
    </>
  );
}

window.seen = [];
new MutationObserver(() => {
  window.seen.push([...document.querySelectorAll("li")].map((item) => item.textContent));
}).observe(document.querySelector("main"), { subtree: true, childList: true, characterData: true });

createRoot(document.querySelector("main")).render(<Workspace />);
