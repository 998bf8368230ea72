// One call of npm's @huggingface/hub per command, for scripts/clients: node clients.mjs FUNCTION REPO ...
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import * as hub from "@huggingface/hub";

const common = { hubUrl: process.env.HF_ENDPOINT, accessToken: process.env.HF_TOKEN };

async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}

async function content(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const wanted = paths.filter((path) => !relative(folder, path).startsWith(".cache"));
  return Promise.all(
    wanted.map(async (path) => ({ path: relative(folder, path), content: new Blob([await readFile(path)]) })),
  );
}

async function bytes(repo, path, revision) {
  const blob = await hub.downloadFile({ ...common, repo, path, revision });
  if (blob === null) throw new Error(`404: there is no ${path}`);
  return Buffer.from(await blob.arrayBuffer());
}

const calls = {
  whoAmI: () => hub.whoAmI(common),
  createRepo: (repo) => hub.createRepo({ ...common, repo }),
  deleteRepo: (repo) => hub.deleteRepo({ ...common, repo }),
  uploadFiles: async (repo, folder, branch) =>
    hub.uploadFiles({ ...common, repo, branch, files: await content(folder), commitTitle: `Add ${folder}` }),
  deleteFile: (repo, path) => hub.deleteFile({ ...common, repo, path }),
  listFiles: async (repo) => (await all(hub.listFiles({ ...common, repo, recursive: true }))).map((file) => file.path),
  listModels: async (query) => (await all(hub.listModels({ ...common, search: { query } }))).map((model) => model.name),
  listCommits: (repo) => all(hub.listCommits({ ...common, repo })),
  modelInfo: (name) => hub.modelInfo({ ...common, name }),
  fileExists: (repo, path) => hub.fileExists({ ...common, repo, path }),
  createBranch: (repo, branch) => hub.createBranch({ ...common, repo, branch }),
  deleteBranch: (repo, branch) => hub.deleteBranch({ ...common, repo, branch }),
  snapshotDownload: (repo, cacheDir) => hub.snapshotDownload({ ...common, repo, cacheDir }),
  parseSafetensorsMetadata: (repo) => hub.parseSafetensorsMetadata({ ...common, repo, computeParametersCount: true }),
  show: async (repo, path, revision) => (await bytes(repo, path, revision)).toString(),
  downloadAll: async (repo, folder) => {
    for await (const { path, type } of hub.listFiles({ ...common, repo, recursive: true })) {
      if (type !== "file") continue;
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), await bytes(repo, path));
    }
  },
};

const [name, ...words] = process.argv.slice(2);
const result = await calls[name](...words);
if (result !== undefined) console.log(typeof result === "string" ? result : JSON.stringify(result));
