"""`preflab view`: who is answered, with what, and what happens when the study changes or goes away."""

import json
import shutil
import threading
import time

import httpx2
import pytest
import uvicorn

from preflab.core.errors import ConfigError
from preflab.report.page import source
from preflab.report.view import listening, make_view

TOKEN = "a-secret"


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({"study": "s<script>", "workers": 1, "stages": []}))
    (folder / "events.jsonl").touch()
    return folder


@pytest.fixture
def client(study):
    with listening(0) as found:
        server = uvicorn.Server(uvicorn.Config(make_view(study, TOKEN), log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [found]}, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{found.getsockname()[1]}"
        with httpx2.Client(base_url=address, timeout=30, trust_env=False) as asking:
            yield asking
        server.should_exit = True
        thread.join(10)


def test_the_page_before_the_first_result_names_the_study_and_escapes_it(client):
    answer = client.get(f"/{TOKEN}/")
    assert answer.status_code == 200
    assert "s&lt;script&gt;" in answer.text and "s<script>" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")


def test_the_policy_of_the_page_names_its_scripts_and_lets_it_ask_only_its_own_server(client):
    text = client.get(f"/{TOKEN}/").text
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    policy = text.partition('Content-Security-Policy" content="')[2].partition('"')[0]
    assert source(script) in policy
    assert "connect-src 'self'" in policy and "default-src 'none'" in policy


@pytest.mark.parametrize("path", ["/", "/status", "/wrong/", "/wrong/status", f"/{TOKEN}/other", f"/{TOKEN}x/",
                                  f"/{TOKEN}/../{TOKEN}/plan.json", f"/{TOKEN}/plan.json", "/%00/"])  # fmt: skip
def test_without_the_secret_or_at_another_place_there_is_nothing(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "study" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "10.0.0.1"])
def test_a_foreign_host_is_turned_away(client, host):
    assert client.get(f"/{TOKEN}/", headers={"host": host}).status_code == 400


def test_names_of_this_machine_are_served_at_any_port_so_that_tunnels_work(client):
    for host in ("localhost:1234", "127.0.0.1:9"):
        assert client.get(f"/{TOKEN}/status", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"])
def test_a_foreign_origin_is_turned_away(client, origin):
    answer = client.get(f"/{TOKEN}/status", headers={"origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_its_own_origin_is_served(client):
    assert client.get(f"/{TOKEN}/status", headers={"origin": str(client.base_url).rstrip("/")}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(client, method):
    assert client.request(method, f"/{TOKEN}/").status_code == 405


def test_new_results_change_the_version_and_the_page_only_when_it_is_asked_for(client, study):
    client.get(f"/{TOKEN}/")
    before = client.get(f"/{TOKEN}/status").json()
    assert before["version"] == before["shown"]
    (study / "index.json").write_text(
        json.dumps({"schema_version": 1, "study": {"name": "now-with-results"}, "cells": []})
    )
    after = client.get(f"/{TOKEN}/status").json()
    assert after["version"] != after["shown"] == before["shown"]
    assert "now-with-results" in client.get(f"/{TOKEN}/").text
    assert client.get(f"/{TOKEN}/status").json()["shown"] == after["version"]


def test_a_study_that_was_deleted_gets_one_sentence(client, study):
    shutil.rmtree(study)
    for what in ("", "status"):
        answer = client.get(f"/{TOKEN}/{what}")
        assert answer.status_code == 503
        assert answer.text.startswith("Nothing can be shown now: ") and "Traceback" not in answer.text


def test_no_study_no_view(tmp_path):
    with pytest.raises(ConfigError, match="no study here"):
        make_view(tmp_path, TOKEN)


def test_a_port_that_is_taken_is_named(client):
    port = client.base_url.port
    with pytest.raises(ConfigError, match=f"--port {port}"), listening(port):
        time.sleep(0)


def test_it_listens_on_this_machine_only():
    with listening(0) as found:
        assert found.getsockname()[0] == "127.0.0.1"
