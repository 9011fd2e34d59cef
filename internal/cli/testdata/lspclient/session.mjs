// A session of an editor with dewar lsp, by the protocol library of VS Code.
// The server is on this program's standard input and output. Exits with 0 if
// everything was as expected.
//
//   node session.mjs CLIENT FOLDER
//
// CLIENT is where the library is installed, FOLDER holds the project of the
// test, whose app.py is APP below.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [client, folder] = process.argv.slice(2);
const require = createRequire(join(client, "/"));
const lsp = require("vscode-languageserver-protocol/node");
const { TextDocument } = require("vscode-languageserver-textdocument");

const uri = (name) => pathToFileURL(join(folder, name)).href;
const connection = lsp.createProtocolConnection(
  new lsp.StreamMessageReader(process.stdin),
  new lsp.StreamMessageWriter(process.stdout),
  { error: say, warn: say, info: say, log: say },
);
function say(text) {
  process.stderr.write(`${text}\n`);
}

// What the server published last, by document; waiting for it to be as wanted.
const published = new Map();
let heard = () => {};
connection.onNotification(lsp.PublishDiagnosticsNotification.type, (p) => {
  published.set(p.uri, p);
  heard();
});
const shown = [];
connection.onNotification(lsp.ShowMessageNotification.type, (p) => shown.push(p.message));
connection.onRequest(lsp.RegistrationRequest.type, () => {});

async function diagnostics(doc, what, wanted) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const p = published.get(doc);
    if (p && wanted(p.diagnostics, p)) return p.diagnostics;
    assert(Date.now() < deadline, `${what}: last was ${JSON.stringify(p)}`);
    await new Promise((done) => {
      const timer = setTimeout(done, 1000);
      heard = () => {
        clearTimeout(timer);
        done();
      };
    });
  }
}
const has = (list, code) => list.some((d) => d.code === code);

let checks = 0;
function check(ok, text) {
  assert(ok, text);
  checks++;
}

connection.listen();
const hello = await connection.sendRequest(lsp.InitializeRequest.type, {
  processId: process.pid,
  rootUri: null,
  workspaceFolders: [{ uri: pathToFileURL(folder).href, name: "project" }],
  capabilities: {
    general: { positionEncodings: ["utf-16"] },
    workspace: { workspaceEdit: { documentChanges: true }, didChangeWatchedFiles: { dynamicRegistration: true }, workspaceFolders: true },
    textDocument: {
      hover: { contentFormat: ["markdown", "plaintext"] },
      publishDiagnostics: { relatedInformation: true, codeDescriptionSupport: true, versionSupport: true },
      codeAction: { codeActionLiteralSupport: { codeActionKind: { valueSet: ["quickfix", "source.fixAll"] } }, isPreferredSupport: true },
    },
  },
});
check(hello.serverInfo.name === "dewar", "the server says who it is");
check(hello.capabilities.positionEncoding === "utf-16", "positions are in UTF-16");
check(hello.capabilities.textDocumentSync.change === lsp.TextDocumentSyncKind.Incremental, "changes are incremental");
await connection.sendNotification(lsp.InitializedNotification.type, {});

// A way through two files, and its repair.
const views = uri("views.py");
const injected = await diagnostics(views, "the injection", (list) => has(list, "DW-INJECTION-001"));
const injection = injected.find((d) => d.code === "DW-INJECTION-001");
check(injection.relatedInformation.length >= 2, `the trace: ${JSON.stringify(injection.relatedInformation)}`);
check(injection.relatedInformation.some((r) => r.location.uri === uri("app.py")), "which begins in the other file");
const told = await connection.sendRequest(lsp.HoverRequest.type, { textDocument: { uri: views }, position: injection.range.start });
check(told.contents.value.includes("**How it gets there**\n\n1. [app.py:"), told.contents.value);
const [mend] = await connection.sendRequest(lsp.CodeActionRequest.type, { textDocument: { uri: views }, range: injection.range, context: { diagnostics: [injection] } });
const sql = TextDocument.create(views, "python", 1, readFileSync(join(folder, "views.py"), "utf8"));
const mended = TextDocument.applyEdits(sql, mend.edit.documentChanges[0].edits);
check(mended.includes('execute("SELECT * FROM u WHERE name = ?", (str(name),))'), mended);

// A file that nobody opened.
const app = uri("app.py");
await diagnostics(app, "the file on disk", (list) => has(list, "DW-SETTINGS-001") && has(list, "DW-SETTINGS-002"));
check(shown.length === 0, `no message to the user: ${shown}`);

// The document as the editor holds it; every edit goes to the server as a
// change, as an editor sends it.
let doc = TextDocument.create(app, "python", 1, readFileSync(join(folder, "app.py"), "utf8"));
await connection.sendNotification(lsp.DidOpenTextDocumentNotification.type, {
  textDocument: { uri: app, languageId: "python", version: 1, text: doc.getText() },
});
async function edit(edits) {
  // In one notification each change sees what the ones before it made: from
  // the end to the beginning none moves another.
  const changes = edits
    .map((e) => ({ range: e.range, text: e.newText }))
    .sort((a, b) => doc.offsetAt(b.range.start) - doc.offsetAt(a.range.start));
  doc = TextDocument.update(doc, changes, doc.version + 1);
  await connection.sendNotification(lsp.DidChangeTextDocumentNotification.type, {
    textDocument: { uri: app, version: doc.version },
    contentChanges: changes,
  });
}
const at = (text) => doc.positionAt(doc.getText().indexOf(text));
const here = (text) => ({ start: at(text), end: at(text) });
const latest = (what, wanted) => diagnostics(app, what, (list, p) => p.version === doc.version && wanted(list));

// A line with characters beyond the basic plane in front of the finding.
await edit([{ range: here("app.config.update"), newText: "title = 'é😀'; " }]);
let list = await latest("behind wide characters", (l) => has(l, "DW-SETTINGS-001"));
const debug = list.find((d) => d.code === "DW-SETTINGS-001");
check(doc.getText(debug.range) === "True" && doc.getText().slice(0, doc.offsetAt(debug.range.start)).endsWith("DEBUG="), `the range is the value: ${doc.getText(debug.range)}`);
check(debug.source === "dewar" && debug.severity === lsp.DiagnosticSeverity.Error, "severity and source");
check(debug.codeDescription.href.endsWith("#dw-settings-001"), "the link to the rule");

const hover = await connection.sendRequest(lsp.HoverRequest.type, { textDocument: { uri: app }, position: debug.range.start });
check(hover.contents.kind === "markdown" && hover.contents.value.includes("DW-SETTINGS-001") && hover.contents.value.includes("**Fix**"), JSON.stringify(hover));
const nothing = await connection.sendRequest(lsp.HoverRequest.type, { textDocument: { uri: app }, position: { line: 0, character: 0 } });
check(nothing === null, "no hover where nothing is");

async function actions(range, only) {
  return connection.sendRequest(lsp.CodeActionRequest.type, { textDocument: { uri: app }, range, context: { diagnostics: [], only } });
}
async function apply(action) {
  check(action.edit.documentChanges.length === 1 && action.edit.documentChanges[0].textDocument.uri === app, "the edit is about this document");
  check(action.edit.documentChanges[0].textDocument.version === doc.version, "and about this version");
  const want = TextDocument.applyEdits(doc, action.edit.documentChanges[0].edits);
  await edit(action.edit.documentChanges[0].edits);
  check(doc.getText() === want, "the edits are not in each other's way");
}

// Repair one.
let offered = await actions(debug.range);
const repair = offered.find((a) => a.isPreferred && a.diagnostics[0].code === "DW-SETTINGS-001");
check(repair, `a repair among ${offered.map((a) => a.title)}`);
await apply(repair);
await latest("the repair", (l) => !has(l, "DW-SETTINGS-001"));
check(doc.getText().includes("title = 'é😀'; app.config.update(") && doc.getText().includes("DEBUG=False"), doc.getText());

// Silence one.
list = await latest("the other", (l) => has(l, "DW-SETTINGS-002"));
offered = await actions(list.find((d) => d.code === "DW-SETTINGS-002").range);
const silence = offered.find((a) => a.title.startsWith("Silence DW-SETTINGS-002"));
check(silence, "to silence it");
await apply(silence);
await latest("silenced", (l) => !has(l, "DW-SETTINGS-002"));
check(doc.getText().includes("    # dewar: ignore[DW-SETTINGS-002] TODO"), doc.getText());

// Break the file, and mend it: nothing is lost.
await edit([{ range: here("app = Flask"), newText: "def (:\n" }]);
await edit([{ range: { start: at("def (:"), end: at("app = Flask") }, newText: "" }]);
await latest("mended", (l) => !has(l, "DW-SETTINGS-001"));

// Undo all by one change of the whole text, then repair everything at once.
doc = TextDocument.create(app, "python", doc.version + 1, readFileSync(join(folder, "app.py"), "utf8"));
await connection.sendNotification(lsp.DidChangeTextDocumentNotification.type, {
  textDocument: { uri: app, version: doc.version },
  contentChanges: [{ text: doc.getText() }],
});
await latest("undone", (l) => has(l, "DW-SETTINGS-001") && has(l, "DW-SETTINGS-002"));
offered = await actions({ start: { line: 0, character: 0 }, end: { line: 0, character: 0 } }, ["source.fixAll"]);
check(offered.length === 1 && offered[0].kind === "source.fixAll.dewar", JSON.stringify(offered));
await apply(offered[0]);
await latest("everything", (l) => !has(l, "DW-SETTINGS-001") && !has(l, "DW-SETTINGS-002"));

// A request that is called off is answered all the same.
const source = new lsp.CancellationTokenSource();
const pending = connection.sendRequest(lsp.HoverRequest.type, { textDocument: { uri: app }, position: { line: 1, character: 0 } }, source.token);
source.cancel();
await pending.catch((e) => check(e.code === lsp.LSPErrorCodes.RequestCancelled, e.message));

// A mistake in the settings is told, and mended.
writeFileSync(join(folder, "dewar.toml"), "[audit]\nfail-on = 'awful'\n");
await connection.sendNotification(lsp.DidChangeWatchedFilesNotification.type, { changes: [{ uri: uri("dewar.toml"), type: lsp.FileChangeType.Created }] });
for (let i = 0; i < 300 && shown.length === 0; i++) await new Promise((done) => setTimeout(done, 100));
check(shown.length === 1 && shown[0].includes("awful"), `the mistake: ${shown}`);
writeFileSync(join(folder, "dewar.toml"), "[audit]\ndisable = ['DW-SETTINGS-001']\n");
await connection.sendNotification(lsp.DidCloseTextDocumentNotification.type, { textDocument: { uri: app } });
await diagnostics(app, "the settings", (l) => has(l, "DW-SETTINGS-002") && !has(l, "DW-SETTINGS-001"));

await connection.sendRequest(lsp.ShutdownRequest.type);
await connection.sendNotification(lsp.ExitNotification.type);
connection.dispose();
say(`${checks} checks`);
process.exit(0);
