// Sends `count` messages with nodemailer's pool; prints {"seconds", "cpu_s", "rss_mib", "sent"}.
// node nodemailer.js HOST PORT COUNT CONNECTIONS KIND [KEYFILE]
const { createRequire } = require("module");
const path = require("path");
const fs = require("fs");
const modules = process.env.POSTHOUSE_NODE_MODULES;
const nodemailer = createRequire(path.join(modules, "x.js"))("nodemailer");

const [host, port, countText, connectionsText, kind, keyFile] = process.argv.slice(2);
const count = Number(countText);
const text = "Dear reader,\n\n" + "this line is as long as lines of letters mostly are, or nearly.\n".repeat(14);
const html = "<p>" + text.replace(/\n/g, "<br>\n") + "</p>";
const attachment = Buffer.alloc(20480, 7);

function message(n) {
  const made = {
    from: "Ada Lovelace <ada@bench.test>",
    to: `Bob <bob${n}@sink.test>`,
    subject: `Letter number ${n}`,
    text,
  };
  if (kind !== "text") {
    made.html = html;
    made.attachments = [{ filename: "data.bin", content: attachment }];
  }
  return made;
}

const options = {
  host, port: Number(port), pool: true, maxConnections: Number(connectionsText),
  maxMessages: Infinity, secure: false, ignoreTLS: true,
};
if (kind === "dkim") {
  options.dkim = { domainName: "bench.test", keySelector: "s1", privateKey: fs.readFileSync(keyFile, "utf8") };
}
const transport = nodemailer.createTransport(options);
let next = 0, sent = 0;
const began = process.hrtime.bigint();
const cpu = process.cpuUsage();

async function worker() {
  while (next < count) {
    await transport.sendMail(message(next++));
    sent++;
  }
}

// As many waiting as the pool takes without a pause, which is how its documentation feeds it.
Promise.all(Array.from({ length: Number(connectionsText) * 2 }, worker)).then(() => {
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const used = process.cpuUsage(cpu);
  console.log(JSON.stringify({
    seconds, cpu_s: (used.user + used.system) / 1e6,
    rss_mib: process.resourceUsage().maxRSS / 1024, sent,
  }));
  transport.close();
});
