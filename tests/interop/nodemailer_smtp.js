// Sends what stdin asks for with nodemailer over SMTP and tells what it said of each; see
// test_nodemailer_smtp.py. Input: {options, messages}; output: a list of info or error.
const { createTransport } = require('nodemailer');

async function main() {
    const chunks = [];
    for await (const chunk of process.stdin) chunks.push(chunk);
    const { options, messages } = JSON.parse(Buffer.concat(chunks).toString());
    const transport = createTransport(options);
    const told = await Promise.all(messages.map(async (message) => {
        try {
            const info = await transport.sendMail(message);
            return { accepted: info.accepted, rejected: info.rejected, response: info.response,
                envelope: info.envelope };
        } catch (error) {
            return { code: error.code, responseCode: error.responseCode || 0 };
        }
    }));
    transport.close();
    process.stdout.write(JSON.stringify(told));
}

main();
