"""The server in docs/external_policy.md works as it stands there."""

from __future__ import annotations

import re

import numpy as np

from etude.config import REPOSITORY
from etude.policy_server import PolicyServerClient
from policy_servers.http_server import PolicyServer


def test_the_documented_server_serves_and_learns(tmp_path, monkeypatch) -> None:
    page = (REPOSITORY / "docs" / "external_policy.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "documented_server.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    from documented_server import PointSeeker

    server = PolicyServer(PointSeeker(action_dim=3), port=0)
    server.start()
    client, observation = PolicyServerClient(server.address, 10.0), {"state": np.zeros((4, 2), np.float32)}
    info, wanted = client.require(("state",), 3), np.full((4, 3), 0.8, np.float32)
    before = client.sample(info, observation, ["go"] * 4, 16, 0)
    losses = [client.distil(info, observation, ["go"] * 4, wanted).loss for _ in range(20)]
    after = client.sample(info, observation, ["go"] * 4, 16, 0)
    server.close()
    assert losses[-1] < 0.1 * losses[0] and after.version == before.version + 20
    assert abs(before.action.mean()) < 0.2 and after.action.mean() > 0.5
