"""A server of SMTP by aiosmtpd: `mail.py PORT SECONDS`. Says each mail's subject; of one to "slow" after that."""

import asyncio
import email
import sys

from aiosmtpd.smtp import SMTP

PORT, SECONDS = int(sys.argv[1]), float(sys.argv[2])


class Handler:
    async def handle_DATA(self, server, session, envelope):
        if envelope.rcpt_tos[0].startswith("slow@"):
            await asyncio.sleep(SECONDS)
        return "250 " + email.message_from_bytes(envelope.content)["subject"]


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), hostname="here"), "127.0.0.1", PORT)
    await server.serve_forever()


asyncio.run(main())
