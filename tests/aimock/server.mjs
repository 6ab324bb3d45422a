// Serves on a free port of loopback, prints the address, and ends with its input.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ host: "127.0.0.1", port: 0, logLevel: "silent", latency: 5 });
await mock.start();
process.stdin.on("end", () => mock.stop().then(() => process.exit(0)));
process.stdin.resume();
console.log(mock.url);
