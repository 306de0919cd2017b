"""The scripted upstream as a program: `python -m aligner.testing --port N` prints its URL and serves until it ends."""

import argparse
import asyncio
import contextlib
import sys

import uvicorn

from aligner.testing.upstream import Upstream, serving


async def _serve(port: int, keep: int) -> None:
    async with serving(Upstream(keep=keep), port) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Serve until the program is ended."""
    parser = argparse.ArgumentParser(prog="python -m aligner.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on loopback; 0 takes any that is free")
    parser.add_argument("--keep", type=int, default=1000, help="how many requests /calls tells of")
    arguments = parser.parse_args()
    loop = uvicorn.Config("", log_config=None).get_loop_factory()
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_serve(arguments.port, arguments.keep))


if __name__ == "__main__":
    main()
