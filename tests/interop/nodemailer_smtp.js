// Sends what stdin asks for with nodemailer over SMTP and tells what it said of each; see
// test_nodemailer_smtp.py. Input: {options, messages}, and where a test wants them: defaults,
// provisioned (access tokens to give when asked, one after the other), when_idle (messages are
// handed over as the pool asks for them). Output: told (a list of info or error), tokens (what the
// token event told), asked (which tokens were asked for), ahead_most, took_ms.
const { createTransport } = require('nodemailer');

async function main() {
    const chunks = [];
    for await (const chunk of process.stdin) chunks.push(chunk);
    const wish = JSON.parse(Buffer.concat(chunks).toString());
    const transport = createTransport(wish.options, wish.defaults);
    const tokens = [];
    const asked = [];
    transport.on('token', (token) => tokens.push(token.accessToken));
    if (wish.provisioned) {
        transport.set('oauth2_provision_cb', (user, renew, callback) => {
            asked.push({ user, renew });
            callback(null, wish.provisioned.shift());
        });
    }
    let under_way = 0;
    let ahead_most = 0;
    async function send(message) {
        ahead_most = Math.max(ahead_most, ++under_way);
        try {
            const info = await transport.sendMail(message);
            return { accepted: info.accepted, rejected: info.rejected, response: info.response,
                envelope: info.envelope };
        } catch (error) {
            return { code: error.code, responseCode: error.responseCode || 0 };
        } finally {
            under_way--;
        }
    }
    const began = Date.now();
    const told = await (wish.when_idle ? sendWhenIdle : sendAtOnce)(transport, wish.messages, send);
    const took_ms = Date.now() - began;
    transport.close();
    process.stdout.write(JSON.stringify({ told, tokens, asked, ahead_most, took_ms }));
}

function sendAtOnce(transport, messages, send) {
    return Promise.all(messages.map(send));
}

// As its page on pools has it: the next as long as there is room.
async function sendWhenIdle(transport, messages, send) {
    const sending = [];
    await new Promise((resolve) => {
        transport.on('idle', () => {
            while (transport.isIdle() && messages.length) sending.push(send(messages.shift()));
            if (!messages.length) resolve();
        });
    });
    return Promise.all(sending);
}

main();
