// Composes what stdin asks for with nodemailer and gives what it made back, or where a place is
// named sends it there by SMTP, one after the other over one session; see test_nodemailer_twins.py
// and test_nodemailer_arrivals.py. Octets, streams and dates come as {"$octets": …}, {"$stream": …} and
// {"$date": …}, as JSON has none.
const { createTransport } = require('nodemailer');
const { Readable } = require('node:stream');

function revived(key, value) {
    if (value && typeof value === 'object') {
        if ('$octets' in value) return Buffer.from(value.$octets, 'base64');
        if ('$stream' in value) return Readable.from([Buffer.from(value.$stream, 'base64')]);
        if ('$date' in value) return new Date(value.$date);
    }
    return value;
}

async function main() {
    const chunks = [];
    for await (const chunk of process.stdin) chunks.push(chunk);
    const wishes = JSON.parse(Buffer.concat(chunks).toString());
    const composing = { streamTransport: true, buffer: true, newline: 'windows' };
    const place = process.env.PLACE ? JSON.parse(process.env.PLACE) : null;
    const transport = createTransport(place || composing);
    const made = {};
    for (const [name, wish] of Object.entries(wishes)) {
        const options = JSON.parse(JSON.stringify(wish), revived);
        const info = await transport.sendMail(options);
        made[name] = place
            ? { messageId: info.messageId, envelope: info.envelope, accepted: info.accepted }
            : { octets: info.message.toString('base64'), envelope: info.envelope };
    }
    transport.close();
    process.stdout.write(JSON.stringify(made));
}

main();
