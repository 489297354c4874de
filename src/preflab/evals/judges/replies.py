"""Replies of judges on disk, found by what was asked, shared by all studies and never paid for twice."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from preflab.core.cache import cache_root
from preflab.core.ids import content_id
from preflab.evals.judges.budget import Tokens
from preflab.evals.judges.client import Server
from preflab.evals.judges.completions import ChatRequest, Reply
from preflab.store.artefacts import write_json

_FORMAT = 1


class ReplyCache:
    """One small file per reply, written atomically.

    Args:
        root: folder; by default `judges` in the folder that all studies share.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_root() / "judges"

    def key(self, server: Server, request: ChatRequest) -> str:
        """Return what a reply is found by: the SHA-256 of address, model, prompt version, messages and sampling.

        The address belongs to it because local servers often call whatever they hold by the same name. The name of the
        key's variable does not: whoever pays, the judge is the same.
        """
        return content_id({"server": server.url, "protocol": request.protocol, "body": request.body(server.model)})

    def get(self, key: str) -> Reply | None:
        """Return the reply to a request, or None where there is none, or a damaged one."""
        try:
            entry = json.loads(self._path(key).read_text(encoding="utf-8"))
            if entry["format"] != _FORMAT or entry["sha256"] != content_id([key, entry["reply"]]):
                return None
            return _reply(entry["reply"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply."""
        fields = asdict(reply)
        write_json(self._path(key), {"format": _FORMAT, "reply": fields, "sha256": content_id([key, fields])})

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.json"


def _reply(fields: dict[str, Any]) -> Reply:
    tokens = fields.pop("tokens")
    return Reply(**fields, tokens=None if tokens is None else Tokens(**tokens))
