"""FastAPI: publish from an async endpoint; one publisher for the life of the application.

pip install fastapi uvicorn syncd
SYNCD_API_KEY=... uvicorn --app-dir examples/fastapi app:app
curl -X POST localhost:8000/rooms/lobby/messages -H 'Content-Type: application/json' -d '{"text": "hello"}'
"""

import os
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel

from syncd.backend import AsyncPublisher, Refused, Unreachable


@asynccontextmanager
async def lifespan(app: FastAPI):
    url = os.environ.get("SYNCD_URL", "http://127.0.0.1:8400")
    async with AsyncPublisher(url, os.environ.get("SYNCD_API_KEY")) as publisher:
        app.state.publisher = publisher
        yield


app = FastAPI(lifespan=lifespan)


def get_publisher(request: Request) -> AsyncPublisher:
    return request.app.state.publisher


class Message(BaseModel):
    text: str


@app.post("/rooms/{room}/messages")
async def post_message(
    room: str,
    message: Message,
    publisher: Annotated[AsyncPublisher, Depends(get_publisher)],
    idempotency_key: Annotated[str | None, Header()] = None,
):
    """Pass the caller's Idempotency-Key on, so that its retries do not repeat the message."""
    try:
        position = await publisher.publish(
            f"demo:{room}", message.model_dump(), name="message", uid=idempotency_key
        )
    except Unreachable as error:
        raise HTTPException(503, "The message could not be sent now; try again.") from error
    except Refused as error:
        raise HTTPException(400, error.message) from error
    return {"offset": position.offset if position else None}
