/** A sandbox and a service of a test's own, as `clients/README.md` has them. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectOptions } from "../src/index.js";

const CLIENTS = resolve(import.meta.dirname, "../../..");
const BINARY = process.env["MESSENGER_CONNECTOR"] ?? resolve(CLIENTS, "../target/debug/messenger-connector");

export interface ExpectedError {
  code?: string;
  reason?: string;
  retryable?: boolean;
  graph?: { code: number; subcode: number };
  violated_fields?: string[];
  has_retry_after?: boolean;
}

export interface Scenario {
  name: string;
  service?: {
    serve?: string[] | null;
    sandbox?: string[] | null;
    environment?: Record<string, string>;
    files?: Record<string, string>;
  };
  connect?: { key?: string; tls?: { ca?: string; certificate?: string; key?: string } };
  delivered?: number;
}

export interface Call {
  method: string;
  request: object;
  request_id_of_error?: boolean;
  timeout_ms?: number;
  within_ms?: number;
  background?: boolean;
  cancel_when_delivered?: boolean;
  restart_when_delivered?: NodeJS.Signals;
  receipt?: Record<string, unknown>;
  preview?: { url_end: string; body_contains: string };
  error?: ExpectedError;
}

/** A call to a service that answers its tries one after another as it is told, and the further ones as the last. */
export interface TryScenario {
  name: string;
  answers: { code?: string; reason?: string; receipt?: object }[];
  timeout_ms?: number;
  within_ms?: number;
  tries?: number;
  receipt?: Record<string, unknown>;
  error?: ExpectedError;
}

export interface BulkScenario extends Scenario {
  start: object;
  rounds: number;
  items: { item: { item_id: string }; state: string; or_state?: string; reason?: string }[];
  filler_bytes?: number;
  ahead_max?: number;
  or_state_max?: number;
  cancel_after_results?: number;
  restart?: { signal: NodeJS.Signals; when_delivered: number };
  error?: ExpectedError;
}

export const scenarios = JSON.parse(readFileSync(join(CLIENTS, "scenarios.json"), "utf8")) as {
  calls: (Scenario & { calls: Call[] })[];
  tries: TryScenario[];
  bulks: BulkScenario[];
};

/** Both processes; `stop` ends them. */
export class Stack {
  private readonly folder = mkdtempSync(join(tmpdir(), "messenger-connector-"));
  private readonly processes: ChildProcess[] = [];
  private graphUrl = "http://127.0.0.1:1";
  address = "127.0.0.1:1";

  private constructor(private readonly scenario: Scenario) {}

  static async start(scenario: Scenario, sandbox: string[] = []): Promise<Stack> {
    const stack = new Stack(scenario);
    try {
      for (const [name, text] of Object.entries(scenario.service?.files ?? {})) {
        writeFileSync(join(stack.folder, name), text);
      }
      const more = scenario.service?.sandbox;
      if (more !== null) {
        const address = await stack.spawn("sandbox", [
          "--listen",
          "127.0.0.1:0",
          ...(more ?? []),
          ...sandbox,
        ]);
        stack.graphUrl = `http://${address}`;
      }
      if (scenario.service?.serve !== null) {
        stack.address = await stack.startService("127.0.0.1:0");
      }
      return stack;
    } catch (error) {
      await stack.stop();
      throw error;
    }
  }

  connection(): ConnectOptions {
    const { key, tls } = this.scenario.connect ?? {};
    const read = (path: string) => readFileSync(this.fill(path));
    return {
      ...(key && { key }),
      ...(tls && {
        tls: {
          ...(tls.ca && { ca: read(tls.ca) }),
          ...(tls.certificate && { cert: read(tls.certificate) }),
          ...(tls.key && { key: read(tls.key) }),
        },
      }),
    };
  }

  async sandbox<Answer>(path: string): Promise<Answer> {
    const answer = await fetch(`${this.graphUrl}/sandbox/${path}`);
    return (await answer.json()) as Answer;
  }

  state(): Promise<{ delivered: number; duplicates: number }> {
    return this.sandbox("state");
  }

  async waitForDelivered(count: number): Promise<void> {
    while ((await this.state()).delivered < count) {
      await sleep(5);
    }
  }

  /** Ends the service by a signal, and starts it again on its port and ledger. */
  async restart(by: NodeJS.Signals): Promise<void> {
    const service = this.processes.at(-1)!;
    const ended = once(service, "exit");
    service.kill(by);
    await ended;
    await this.startService(this.address);
  }

  async stop(): Promise<void> {
    for (const process of this.processes) {
      if (process.exitCode === null && process.signalCode === null) {
        const ended = once(process, "exit");
        process.kill("SIGKILL");
        await ended;
      }
    }
    rmSync(this.folder, { recursive: true });
  }

  private startService(listen: string): Promise<string> {
    const rates = ["--rate-per-second", "0", "--media-rate-per-second", "0", "--admin-listen", "none"];
    const ledger = `sqlite://${this.folder}/ledger.db`;
    const more = (this.scenario.service?.serve ?? []).map((argument) => this.fill(argument));
    const options = ["--listen", listen, "--graph-url", this.graphUrl, "--ledger", ledger, ...rates, ...more];
    return this.spawn("serve", options);
  }

  /** Returns the address that the command says it listens on. */
  private async spawn(command: string, options: string[]): Promise<string> {
    const env = { ...process.env, PAGE_ACCESS_TOKEN: "token", ...this.scenario.service?.environment };
    const child = spawn(BINARY, [command, ...options], { stdio: ["ignore", "pipe", "inherit"], env });
    this.processes.push(child);
    const failed = once(child, "error").then(([error]) => Promise.reject(error));
    const said: string[] = [];
    const lines = createInterface({ input: child.stdout });
    const address = new Promise<string>((found, missing) => {
      lines.on("line", (line) => {
        said.push(line);
        const address = /listens.*?(\d+\.\d+\.\d+\.\d+:\d+)/.exec(line)?.[1];
        if (address) {
          found(address);
        }
      });
      lines.on("close", () =>
        missing(new Error(`${BINARY} ${command} ended before it listened:\n${said.join("\n")}`)),
      );
    });
    return Promise.race([address, failed]);
  }

  private fill(text: string): string {
    return text.replace("{folder}", this.folder).replace("{certificates}", join(CLIENTS, "certificates"));
  }
}
