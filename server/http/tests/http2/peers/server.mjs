// Node's http2 as a server: server.mjs PLAIN_PORT SECURE_PORT CERTIFICATE KEY SETTINGS. Each request is answered as its path says.
import { readFileSync } from 'node:fs'
import { constants, createSecureServer, createServer } from 'node:http2'

const [plain, secure, cert, key, settings] = process.argv.slice(2)
const { requestsPerSession, ...own } = JSON.parse(settings)
const works = []

function answer (stream, headers) {
  const url = new URL(headers[':path'], 'http://localhost')
  const text = (body) => {
    stream.respond({ ':status': 200, 'content-length': Buffer.byteLength(body) })
    stream.end(headers[':method'] === 'HEAD' ? undefined : body)
  }
  switch (url.pathname) {
    case '/': return text('hello\n')
    case '/long': return text(Buffer.alloc(5_000_000, 'x'))
    case '/echo':
      stream.respond({ ':status': 200 })
      return stream.pipe(stream)
    case '/empty': return stream.respond({ ':status': 204 }, { endStream: true })
    case '/same': return stream.respond({ ':status': 304, 'content-length': 6 }, { endStream: true })
    case '/trailers':
      stream.respond({ ':status': 200 }, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '7' }))
      return stream.end('body')
    case '/hinted':
      for (let hint = 0; hint < Number(url.searchParams.get('count')); hint++) {
        stream.additionalHeaders({ ':status': 103, link: '</style.css>; rel=preload' })
      }
      return text('hello\n')
    case '/cut':
      stream.respond({ ':status': 200 })
      // By `close` with an error it would end the body as if that were whole.
      return stream.write('begun', () => stream.destroy(new Error('cut')))
    case '/early':
      stream.respond({ ':status': 413 })
      return stream.end('early', () => stream.close(constants.NGHTTP2_NO_ERROR))
    case '/big':
      stream.respond({ ':status': 200, 'x-big': 'x'.repeat(Number(url.searchParams.get('size'))) })
      return stream.end('big')
    case '/work': {
      let body = ''
      stream.on('data', (piece) => { body += piece })
      return stream.on('end', () => {
        works.push(body)
        text(body)
      })
    }
    case '/works': return text(works.join(' '))
    default: return stream.respond({ ':status': 404 }, { endStream: true })
  }
}

for (const [port, server] of [
  [plain, createServer({ settings: own })],
  [secure, createSecureServer({ settings: own, cert: readFileSync(cert), key: readFileSync(key) })]
]) {
  server.on('session', (session) => {
    let requests = 0
    session.on('error', () => {})
    session.on('stream', (stream, headers) => {
      stream.on('error', () => {})
      answer(stream, headers)
      requests += 1
      if (requests === requestsPerSession) session.close()
    })
  })
  server.listen(Number(port), '127.0.0.1')
}
