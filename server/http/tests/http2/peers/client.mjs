// Node's http2: client.mjs URL. Ends with "all is well".
import assert from 'node:assert'
import { connect, constants } from 'node:http2'

const session = connect(process.argv[2], { rejectUnauthorized: false })

const ask = (headers, body) => new Promise((resolve, reject) => {
  const stream = session.request(headers)
  const pieces = []
  let status
  stream.on('response', (answer) => { status = answer[':status'] })
  stream.on('data', (piece) => pieces.push(piece))
  stream.on('error', reject)
  stream.on('end', () => resolve({ status, body: Buffer.concat(pieces) }))
  stream.end(body)
})

const answers = await Promise.all([...Array(500)].map(() => ask({ ':path': '/' })))
for (const { status, body } of answers) {
  assert.strictEqual(status, 200)
  assert.strictEqual(body.toString(), 'HTTP/2.0\n')
}
const long = Buffer.alloc(3_000_000, 7)
const echo = { ':path': '/echo', ':method': 'POST' }
for (const { body } of await Promise.all([1, 2, 3].map(() => ask(echo, long)))) assert(long.equals(body))

// One that is given up, and the connection goes on.
const given = session.request({ ':path': '/long' })
await new Promise((resolve) => given.once('data', resolve))
given.close(constants.NGHTTP2_CANCEL)
assert.strictEqual((await ask({ ':path': '/long' })).body.length, 5_000_000)
session.close()
await new Promise((resolve) => session.once('close', resolve))
console.log('all is well')
