"""The same in a program that uses asyncio: AsyncTransport has the same methods, to be awaited.

python beside_a_loop.py URL SENDER TO...
"""

import asyncio
import sys

from posthouse.sending import AsyncTransport, Message, SendingError


async def main(url: str, sender: str, *to: str) -> int:
    async with AsyncTransport(url) as transport:
        letters = [
            Message(sender=sender, to=one, subject="Hello", text=f"Dear {one},\n") for one in to
        ]
        results = await asyncio.gather(
            *(transport.send(letter) for letter in letters), return_exceptions=True
        )
    for address, result in zip(to, results, strict=True):
        if isinstance(result, SendingError):
            print(f"{address}: {result}", file=sys.stderr)
        elif isinstance(result, BaseException):
            raise result
        else:
            print(f"{address}: {result.response}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
